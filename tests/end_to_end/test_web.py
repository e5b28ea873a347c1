"""The page in headless Chromium gives what Python gives: on samples, files and a microphone.

Needs Chromium, and onnxruntime-web in a folder that NODE_PATH names.
"""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

import asr
from asr.phonemes import LETTERS
from asr.recognise import transcribe
from asr.transcripts.formats import event_fields
from export.web import RUNTIME, WebError, write_site
from features.audio import read_audio
from tests.support import tiny_models, typed_keywords
from tests.support.browser import CHROMIUM, Page, browser, static_host
from tests.support.commands import ROOT, run_asr
from tests.support.serving import serving

DIST = Path(os.environ.get("NODE_PATH", "")) / "onnxruntime-web" / "dist"
HAVE = CHROMIUM is not None and (DIST / RUNTIME[0]).is_file()


def in_chromium(test: Any) -> Any:
    reason = "Chromium or onnxruntime-web is not installed"
    return pytest.mark.slow(pytest.mark.skipif(not HAVE, reason=reason)(test))


SAMPLES = {"commands": "commands.flac", "english": "digits.ogg"}
ELSEWHERE = "elsewhere.example"  # another machine, to a browser
SCORE, FRAME = 1e-4, 0.03  # a frame of english in seconds
CONFIDENCE = 1e-3


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Chromium's fake microphone plays: the sample of commands, at 48 kHz.

    It plays from the moment when it is opened, and a busy Chromium takes it up later than that.
    """
    path = tmp_path_factory.mktemp("microphone") / "commands.wav"
    audio = read_audio(ROOT / "samples" / "commands.flac", 48000)
    soundfile.write(path, np.pad(audio, (3 * 48000, 48000)), 48000)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, microphone: Path) -> Iterator[Page]:
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--autoplay-policy=no-user-gesture-required",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    )
    with browser(tmp_path_factory.mktemp("profile"), *flags) as tab:
        yield tab


@pytest.fixture(scope="module", params=sorted(SAMPLES))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The name of a bundled model, and the URL of its page."""
    folder = tmp_path_factory.mktemp("site")
    write_site(asr.load(request.param), folder, DIST)
    with static_host(folder) as url:
        yield request.param, url


def opened(page: Page, url: str) -> None:
    page.open(url)
    status = page.run(
        "import('/app.js').then((m) => m.ready)"
        ".then(() => document.getElementById('status').textContent)"
    )
    assert status.startswith("Ready"), status


def type_keywords(page: Page, text: str) -> None:
    page.run(
        "{ const box = document.getElementById('keywords');"
        f"box.value = '{text}'; box.dispatchEvent(new Event('change')); }}"
    )


def floats(audio: np.ndarray) -> str:
    """JavaScript for a Float32Array of these samples."""
    text = base64.b64encode(audio.astype("<f4").tobytes()).decode()
    return f"new Float32Array(Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0)).buffer)"


def newest(name: str) -> str:
    """What the page lists first of the sample of a bundled model: its last word, or its text."""
    audio = read_audio(ROOT / "samples" / SAMPLES[name], 16000)
    if name == "commands":
        last = asr.spot(asr.load(name), audio)[-1]
        return f"{last.label} ({last.score:.0%})".replace("%", " %")
    return transcribe(asr.load(name), audio, options=asr.DecodeOptions(no_lm=True)).text


def assert_same_events(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [e["type"] for e in found] == [e["type"] for e in expected] != []
    for event, other in zip(found, expected, strict=True):
        assert event.get("text") == other.get("text") and event.get("label") == other.get("label")
        for time in {"time", "start", "end"} & other.keys():
            assert abs(event[time] - other[time]) <= FRAME
        assert abs(event.get("score", 0) - other.get("score", 0)) <= SCORE
        if "words" in other:
            assert [w["text"] for w in event["words"]] == [w["text"] for w in other["words"]]
            for word, of in zip(event["words"], other["words"], strict=True):
                assert abs(word["start"] - of["start"]) <= FRAME
                assert abs(word["confidence"] - of["confidence"]) <= CONFIDENCE


@in_chromium
def test_page_gives_the_events_of_a_stream(page: Page, site: tuple[str, str]) -> None:
    name, url = site
    audio = read_audio(ROOT / "samples" / SAMPLES[name], 16000)
    opened(page, url)
    found = page.run(f"import('/app.js').then((m) => m.recognise({floats(audio)}))")
    model = asr.load(name)
    without = asr.DecodeOptions(no_lm=True) if model.card.task == "ctc" else None
    stream = asr.Stream(model, without)
    expected = [
        event_fields(event)
        for start in range(0, len(audio), 8000)
        for event in stream.push(audio[start : start + 8000])
    ]
    assert_same_events(found, expected + [event_fields(event) for event in stream.finish()])
    assert "real-time factor" in page.run("document.getElementById('status').textContent")


@in_chromium
def test_page_spots_typed_keywords(page: Page, site: tuple[str, str], tmp_path: Path) -> None:
    name, url = site
    if name != "english":
        pytest.skip("commands knows its own keywords only")
    audio = read_audio(ROOT / "samples" / SAMPLES[name], 16000)
    opened(page, url)
    type_keywords(page, typed_keywords.TEXT)
    found = page.run(f"import('/app.js').then((m) => m.recognise({floats(audio)}))")
    model = asr.load(typed_keywords.without_dictionary(tmp_path))
    stream = asr.Stream(model, typed_keywords.OPTIONS)
    assert_same_events(found, [event_fields(e) for e in stream.push(audio) + stream.finish()])
    assert {event["label"] for event in found} >= set(typed_keywords.FOUND)
    type_keywords(page, "lumos (L UX1 M OW S)")
    page.wait_for("/'UX1' is no phoneme/.test(document.getElementById('status').textContent)")
    type_keywords(page, "wild fire, stop, WildFire=0.5")
    page.wait_for("/'WildFire' is there twice/.test(document.getElementById('status').textContent)")
    type_keywords(page, "operator=7")
    page.wait_for("/write .operator=0.8/.test(document.getElementById('status').textContent)")


@in_chromium
def test_page_spots_by_letters_where_the_model_reads_no_phonemes(
    page: Page, site: tuple[str, str]
) -> None:
    name, url = site
    if name != "english":
        pytest.skip("commands knows its own keywords only")
    opened(page, url)
    page.run("import('/keywords.js').then((m) => { window.keywords = m; })")
    found = page.run(
        "fetch('/card.json').then((r) => r.json()).then((card) => {"
        "const row = (k) => card.labels.map((_, n) => (n === k ? -0.1 : -5));"
        "const rows = [...'stop'].map((letter) => row(card.labels.indexOf(letter)));"
        "const { Spotter, parseKeywords } = window.keywords;"
        "const spotter = new Spotter({ ...card, phonemes: [] }, parseKeywords('stop (G OW)'));"
        "return [...spotter.push(rows, 0), ...spotter.finish()]; })"
    )
    assert [(event["label"], event["score"]) for event in found] == [("stop", 1.0)]


@in_chromium
def test_page_recognises_a_file_and_works_offline(page: Page, site: tuple[str, str]) -> None:
    name, url = site
    opened(page, url)
    page.run("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for("navigator.serviceWorker.controller !== null")
    page.send("Network.enable")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.send("Network.emulateNetworkConditions", offline=True, **offline)
    try:
        opened(page, url)
        root = page.send("DOM.getDocument")["root"]["nodeId"]
        node = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        path = str(ROOT / "samples" / SAMPLES[name])
        page.send("DOM.setFileInputFiles", nodeId=node, files=[path])
        texts = "[...document.querySelectorAll('#events span')].map((e) => e.textContent)"
        page.wait_for(f"{texts}[0] === '{newest(name)}'")
    finally:
        page.send("Network.emulateNetworkConditions", offline=False, **offline)


@in_chromium
def test_page_that_was_written_anew_takes_the_place_of_the_one_kept(
    page: Page, tmp_path: Path
) -> None:
    write_site(asr.load("english"), tmp_path, DIST)
    with static_host(tmp_path) as url:
        opened(page, url)
        page.wait_for("navigator.serviceWorker.controller !== null")
        write_site(asr.load("commands"), tmp_path, DIST)
        page.open(url)
        page.wait_for("document.title === 'commands'")
        opened(page, url)
        assert page.run("caches.keys().then((names) => names.length)") == 1


@in_chromium
def test_page_says_where_browsers_give_no_microphone(page: Page, site: tuple[str, str]) -> None:
    opened(page, site[1].replace("127.0.0.1", ELSEWHERE))
    page.run("document.getElementById('microphone').click()")
    status = "document.getElementById('status').textContent"
    page.wait_for(f"{status}.includes('https pages and to localhost only')")


@in_chromium
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampler_of_the_page_is_as_good_as_ours(
    page: Page, site: tuple[str, str], rate: int
) -> None:
    opened(page, site[1])
    time = np.arange(rate) / rate
    tones = sum(np.sin(2 * np.pi * f * time) for f in (200, 1000, 3400)) / 4
    sound = tones * np.hanning(rate)  # both begin and end in silence
    found = page.run(
        f"import('/resampler.js').then(({{ Resampler }}) => {{"
        f"const r = new Resampler({rate}, 16000), s = {floats(sound)};"
        "return [s.slice(0, 777), s.slice(777, 9000), s.slice(9000)]"
        ".flatMap((piece) => [...r.push(piece)]).concat(...r.finish()); })"
    )
    expected = soxr.resample(sound.astype("f4"), rate, 16000)
    assert len(found) >= len(expected)
    np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-3)


@in_chromium
def test_page_spots_keywords_from_a_microphone(page: Page, site: tuple[str, str]) -> None:
    name, url = site
    if name != "commands":
        pytest.skip("the fake microphone says commands")
    opened(page, url)
    page.run("document.getElementById('microphone').click()")
    labels = (
        "[...document.querySelectorAll('#events span')].map((e) => e.textContent.split(' ')[0])"
    )
    page.wait_for(f"{labels}.length >= 3")
    page.run("document.getElementById('microphone').click()")
    page.wait_for("document.getElementById('status').textContent.startsWith('Stopped')")
    assert page.run(labels)[::-1] == ["yes", "stop", "left"]


@in_chromium
def test_page_of_the_server_spots_keywords_from_a_microphone(page: Page) -> None:
    with serving(ROOT / "asr" / "models" / "commands.onnx") as server:
        page.open(server.url)
        page.wait_for("document.getElementById('model').options.length === 1")
        page.run("document.getElementById('button').click()")
        text = "document.getElementById('events').textContent"
        page.wait_for(f"/yes.*stop.*left/.test({text})")
        page.run("document.getElementById('button').click()")


@in_chromium
def test_page_of_the_server_takes_keywords_as_the_commands_do(page: Page) -> None:
    with serving(ROOT / "asr" / "models" / "english.onnx") as server:
        page.open(server.url)
        page.wait_for("document.getElementById('model').options.length === 1")
        type_keywords(page, "left=7")
        page.run("document.getElementById('button').click()")
        status = "document.getElementById('status').textContent"
        page.wait_for(f"/threshold 7 is not in .* give 'left=0.6'/.test({status})")
        type_keywords(page, "Stop=0.5, lumos (L UW M OW S)")
        page.run("document.getElementById('button').click()")
        page.wait_for("/stop/.test(document.getElementById('events').textContent)")
        page.run("document.getElementById('button').click()")


@in_chromium
def test_page_of_the_server_says_where_browsers_give_no_microphone(page: Page) -> None:
    model = ROOT / "asr" / "models" / "commands.onnx"
    with serving(model, ASR_TOKEN="secret") as server:
        page.open(server.url.replace("127.0.0.1", ELSEWHERE))
        page.run("document.getElementById('button').click()")
        status = "document.getElementById('status').textContent"
        page.wait_for(f"{status}.includes('https pages and to localhost only')")


def test_phonemes_are_those_of_python() -> None:
    source = (ROOT / "export" / "web" / "site" / "keywords.js").read_text()
    source = re.sub(r'"\s*\+ "', "", source)
    assert f'"{" ".join(LETTERS)}"' in source and f'"{"".join(LETTERS.values())}"' in source


def test_site_holds_all_that_it_needs(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in RUNTIME:
        (dist / name).write_text(name)
    out = tmp_path / "site"
    result = run_asr("web", "commands", "-o", out, "--runtime", dist)
    assert result.returncode == 0, result.stderr
    model = asr.load("commands")
    assert (out / "card.json").read_text() == model.card.to_json()
    assert (out / "model.onnx").read_bytes() == model.path.read_bytes()
    worker = (out / "sw.js").read_text()
    assert "@" not in worker
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert all(f'"{name}"' in worker for name in names - {"sw.js"})
    assert not [path for path in out.rglob("*.js") if "https://" in path.read_text()]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WebError, match="npm install onnxruntime-web"):
        write_site(asr.load("commands"), tmp_path / "site", tmp_path)
    whole = tiny_models.whole_ctc(tmp_path / "whole.onnx")
    with pytest.raises(WebError, match="needs whole utterances"):
        write_site(asr.load(whole), tmp_path / "site", tmp_path)
    assert not (tmp_path / "site").exists()
