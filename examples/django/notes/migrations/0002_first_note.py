"""A new site has one note."""

from django.db import migrations


def write(apps, schema_editor):
    apps.get_model("notes", "Note").objects.create(text="written by a migration")


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]  # noqa: RUF012
    operations = [migrations.RunPython(write, migrations.RunPython.noop)]  # noqa: RUF012
