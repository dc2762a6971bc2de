"""The pages of the site."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from notes.models import Note


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "notes/index.html", {"notes": Note.objects.order_by("written")})


def health(request: HttpRequest) -> HttpResponse:
    """Whether the site and its database answer."""
    return HttpResponse(f"{Note.objects.count()} notes\n", content_type="text/plain")
