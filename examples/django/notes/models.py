"""What the database holds."""

from django.db import models


class Note(models.Model):
    """A line of text with its date."""

    text = models.CharField(max_length=200)
    written = models.DateTimeField(auto_now_add=True)
