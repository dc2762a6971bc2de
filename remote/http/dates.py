"""Dates in HTTP headers."""

from __future__ import annotations

import datetime
import email.utils


def http_date(text: str) -> float | None:
    """The seconds since the epoch of a date (RFC 9110, 5.6.7); None if it is malformed or out of range."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (ValueError, OverflowError):  # the latter for a time zone that is too far from any clock
        return None
