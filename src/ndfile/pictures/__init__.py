"""What arrays look like: pictures of them, and of what is in memory, as PNG files, in a terminal and in notebooks."""

from ndfile.pictures.picture import Picture, pictured
from ndfile.pictures.residency import residency_picture
from ndfile.pictures.subject import Subject, subject_of

__all__ = ["Picture", "Subject", "pictured", "residency_picture", "subject_of"]
