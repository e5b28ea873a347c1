"""Transcripts as files: formats, subtitles, an output folder."""
