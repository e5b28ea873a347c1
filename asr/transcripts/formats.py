"""Transcripts as text: plain, JSON, subtitles, and the CTM of NIST's scoring tools.

The JSON of a file is one object on one line:

    schema      1; another number means that fields have changed their meaning or are gone
    file        the path as it was given
    text        all of it
    duration    of the audio
    segments    the utterances, in order: text, start, end, words, and n_best if it was asked for
        words   text, start, end, confidence (a probability)
        n_best  text, score (a log-probability), best first

What comes through a pipe is written as it is known: one segment a line, schema and file in each.
Times are seconds from the beginning of the audio, to the millisecond.
"""

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from asr.events import Detection, Event, NearMiss, Partial, Utterance, Word
from asr.transcripts.subtitles import srt, vtt

if TYPE_CHECKING:
    from asr.recognise import Transcript

SCHEMA_VERSION = 1


class Format(StrEnum):
    """How a transcript is written; the value is also the suffix of its file."""

    txt = "txt"
    json = "json"
    srt = "srt"
    vtt = "vtt"
    ctm = "ctm"


class EventFormat(StrEnum):
    """How events are printed, live or as a list."""

    txt = "txt"
    json = "json"


class ShardFormat(StrEnum):
    """How results of many files are written together; the value is also the suffix of a shard."""

    jsonl = "jsonl"
    parquet = "parquet"


def document(transcript: "Transcript", file: str, format: Format) -> str:
    """Return the transcript of a file as the whole text of a file of this format."""
    if format is Format.txt:
        return f"{transcript.text}\n"
    if format is Format.json:
        segments = [segment_fields(segment) for segment in transcript.segments]
        fields = {"text": transcript.text, "duration": _seconds(transcript.duration)}
        return json_line(_origin(file) | fields | {"segments": segments})
    return "".join(pieces(transcript.segments, file, format))


def pieces(segments: Iterable[Utterance], file: str, format: Format) -> Iterator[str]:
    """Yield what a format writes about utterances, as soon as it is certain."""
    if format is Format.srt:
        yield from srt(segments)
    elif format is Format.vtt:
        yield from vtt(segments)
    else:
        for segment in segments:
            if format is Format.txt:
                yield f"{segment.text}\n"
            elif format is Format.json:
                yield json_line(_origin(file) | segment_fields(segment))
            else:
                yield "".join(_ctm_line(word, file) for word in segment.words)


def detection_line(detection: Detection | NearMiss, file: str, format: EventFormat) -> str:
    """Return what a format writes about a keyword in a file."""
    if format is EventFormat.txt:
        return f"{detection}\n"
    return json_line({"file": file} | detection_fields(detection))


def detections_line(events: Iterable[Detection | NearMiss], file: str) -> str:
    """Return all keywords of a file as one line of JSON."""
    return json_line(_origin(file) | {"detections": [detection_fields(event) for event in events]})


def error_line(file: str, error: str) -> str:
    """Return, as a line of JSON, that there are no results of a file, and why."""
    return json_line(_origin(file) | {"error": error})


def segment_fields(utterance: Utterance) -> dict[str, Any]:
    """Return an utterance as a JSON object."""
    fields = span_fields(utterance) | {"words": [_word_fields(word) for word in utterance.words]}
    if utterance.alternatives:
        n_best = [{"text": a.text, "score": round(a.score, 4)} for a in utterance.alternatives]
        fields["n_best"] = n_best
    return fields


def span_fields(span: Partial | Utterance | Word) -> dict[str, Any]:
    """Return what every span of speech has, as a JSON object."""
    return {"text": span.text, "start": _seconds(span.start), "end": _seconds(span.end)}


def detection_fields(detection: Detection | NearMiss) -> dict[str, Any]:
    """Return a keyword as a JSON object; one that was missed has a `reason`."""
    score = round(detection.score, 4)
    fields = {"time": _seconds(detection.time), "label": detection.label, "score": score}
    if detection.start is not None and detection.end is not None:
        fields |= {"start": _seconds(detection.start), "end": _seconds(detection.end)}
    return fields | ({"reason": detection.reason} if isinstance(detection, NearMiss) else {})


def event_fields(event: Event) -> dict[str, Any]:
    """Return any event as a JSON object that says its `type`."""
    if isinstance(event, Utterance):
        return {"type": "utterance"} | segment_fields(event)
    if isinstance(event, Partial):
        return {"type": "partial"} | span_fields(event) | {"stable": event.stable}
    kind = "near_miss" if isinstance(event, NearMiss) else "detection"
    return {"type": kind} | detection_fields(event)


def json_line(fields: dict[str, Any]) -> str:
    """Return a JSON object as a line."""
    return json.dumps(fields, ensure_ascii=False) + "\n"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _word_fields(word: Word) -> dict[str, Any]:
    return span_fields(word) | {"confidence": round(word.confidence, 4)}


def _origin(file: str) -> dict[str, Any]:
    return {"schema": SCHEMA_VERSION, "file": file}


def _ctm_line(word: Word, file: str) -> str:
    """`recording channel start duration word confidence`; a field of CTM has no white space."""
    recording = "_".join(PurePath(file).stem.split())
    text = "_".join(word.text.split())
    duration = word.end - word.start
    return f"{recording} 1 {word.start:.3f} {duration:.3f} {text} {word.confidence:.4f}\n"


def _seconds(seconds: float) -> float:
    return round(seconds, 3)
