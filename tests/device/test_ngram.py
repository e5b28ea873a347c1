"""N-gram models: the estimate against its formulas, the file against its format."""

import gzip
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm.arpa import read_arpa, write_arpa
from asr.decode.lm.language_model import Weights, sentence_scores
from asr.decode.lm.ngram import language_model
from asr.decode.lm.ngrams import END, MARKS, START, UNKNOWN, NgramModel
from asr.files import ReadError
from asr.training.ngrams import counts
from asr.training.ngrams.build import Plan, build
from asr.training.ngrams.grams import Model
from asr.training.ngrams.kneser_ney import FALLBACK_DISCOUNTS
from asr.training.ngrams.perplexity import perplexity
from asr.training.ngrams.prune import prune
from features.errors import EarshotError
from tests.support.commands import run_asr
from tests.support.language_models import ARPA, built, context_after, model_of
from tests.support.tiny_models import card

words = st.sampled_from(["a", "b", "c", "d"])
texts = st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=12)


def kneser_ney(
    sentences: list[list[str]], order: int, history: tuple[str, ...], word: str
) -> float:
    """p(word | history) straight from the paper, counted anew at every level."""
    padded = [(START, *sentence, END) for sentence in sentences]

    def grams(n: int) -> Counter[tuple[str, ...]]:
        return Counter(s[i : i + n] for s in padded for i in range(len(s) - n + 1))

    n = len(history) + 1
    raw = grams(n)
    if n == order:
        counts = dict(raw)
    else:
        longer = grams(n + 1)
        counts = {g: sum(h[1:] == g for h in longer) if g[0] != START else raw[g] for g in raw}
    counts.pop((START,), None)
    have = Counter(counts.values())
    discounts = FALLBACK_DISCOUNTS
    if all(have[k] for k in (1, 2, 3, 4)):
        y = have[1] / (have[1] + 2 * have[2])
        found = tuple(k - (k + 1) * y * have[k + 1] / have[k] for k in (1, 2, 3))
        discounts = found if min(found) > 0 else FALLBACK_DISCOUNTS
    same = {g: c for g, c in counts.items() if g[:-1] == history}
    size = len({w for s in padded for w in s[1:]}) + 1
    lower = kneser_ney(sentences, order, history[1:], word) if history else 1 / size
    if not same:
        return lower
    count, total = same.get((*history, word), 0), sum(same.values())
    lost = sum(discounts[min(c, 3) - 1] for c in same.values())
    own = count - discounts[min(count, 3) - 1] if count else 0.0
    return own / total + lost / total * lower


@settings(max_examples=30)
@given(texts, st.integers(1, 4), st.lists(words, max_size=3), st.data())
def test_estimates_follow_chen_and_goodman(
    sentences: list[list[str]], order: int, history: list[str], data: st.DataObject
) -> None:
    model = built(sentences, order)
    word = data.draw(st.sampled_from([*model.vocabulary, END, UNKNOWN]))
    begins = data.draw(st.booleans())
    seen = ((START,) if begins else ()) + tuple(history)
    context = seen[len(seen) - min(len(seen), order - 1) :]
    expected = kneser_ney(sentences, order, context, word)
    found = math.exp(model.score(context_after(model, context), word)[0])
    assert found == pytest.approx(expected, rel=1e-9)


@settings(max_examples=50)
@given(texts, st.integers(1, 4), st.lists(words, max_size=4))
def test_probabilities_sum_to_one(
    sentences: list[list[str]], order: int, history: list[str]
) -> None:
    model = built(sentences, order)
    context = model.start
    for word in history:
        context = model.score(context, word if model.knows(word) else None)[1]
    everything = [*model.vocabulary, END, UNKNOWN]
    total = sum(math.exp(model.score(context, word)[0]) for word in everything)
    assert total == pytest.approx(1.0)


def test_a_bigram_worked_out_by_hand() -> None:
    """Texts "a a" and "a b": few counts, so the discounts are 0.5, 1 and 1.5.

    Words follow, in contexts: a after <s>, a; b after a; </s> after a, b. So p(a) = (2 - 1) / 5 +
    w / 4 with w = (1 + 0.5 + 1) / 5 = 0.5, and a after <s>, seen twice, loses 1 of 2.
    """
    model = built([["a", "a"], ["a", "b"]], 2)
    start = context_after(model, [START])
    assert math.exp(model.score((), "a")[0]) == pytest.approx(0.2 + 0.5 / 4)
    assert math.exp(model.score((), None)[0]) == pytest.approx(0.5 / 4)
    assert math.exp(model.score(start, "a")[0]) == pytest.approx(0.5 + 0.5 * 0.325)
    assert math.exp(model.score(start, "b")[0]) == pytest.approx(0.5 * (0.1 + 0.125))


def test_a_written_model_is_read_back(tmp_path: Path) -> None:
    model = built([["yes", "no"], ["no", "no", "ünsinn"], ["yes"]], 3)
    write_arpa(model, tmp_path / "lm.arpa")
    assert list(tmp_path.iterdir()) == [tmp_path / "lm.arpa"]
    check_equal(read_arpa(tmp_path / "lm.arpa"), model, 1e-5)


def check_equal(found: NgramModel, expected: NgramModel, tolerance: float) -> None:
    """Check that two models say the same of all words after some contexts."""
    assert found.vocabulary == expected.vocabulary
    for words in [(), (START,), ("no",), ("yes", "no"), ("no", "no"), ("zzz",)]:
        before, context = context_after(found, words), context_after(expected, words)
        for word in (*expected.vocabulary, END, None):
            score, following = expected.score(context, word)
            close = pytest.approx(score, abs=tolerance)
            assert found.score(before, word) == (close, following)
            assert found.row(before)[found.number(word or UNKNOWN)] == close


def test_backing_off_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    model = read_arpa(path)
    assert (model.order, model.start) == (2, context_after(model, [START]))
    for words, word, score in [
        ((START,), "yes", -0.1),
        ((START,), "no", -0.5 - 0.9),
        (("yes",), "no", -0.6),
        (("yes",), END, -0.3 - 0.7),
        (("no",), None, -0.2 - 2.0),
        ((), "yes", -0.4),
    ]:
        context = context_after(model, words)
        assert model.score(context, word)[0] == pytest.approx(score * math.log(10))
    assert model.score(model.start, "yes")[1] == context_after(model, ["yes"])


def test_gzip_is_read_and_a_file_from_elsewhere_too(tmp_path: Path) -> None:
    text = ARPA.replace("\t", " ").replace("<unk>", "<UNK>").replace("\n", "\r\n")
    path = tmp_path / "lm.arpa.gz"
    path.write_bytes(gzip.compress(("made by a tool\n" + text).encode()))
    assert read_arpa(path).score((), None)[0] == pytest.approx(-2.0 * math.log(10))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.replace("\\data\\", ""), "has no \\data\\ line"),
        (lambda t: t.replace("\\end\\", ""), "ends before its \\end\\ line: it is truncated"),
        (lambda t: t[: t.index("-0.6")], "line 14: ends before its \\end\\ line"),
        (lambda t: t.replace("ngram 2=3", "ngram 2=4"), "has 3 2-grams, and its head"),
        (lambda t: t.replace("ngram 2=3\n", ""), "has '\\2-grams:' where \\end\\ should be"),
        (lambda t: t.replace("ngram 1=5", "ngram 1=many"), "does not count 1-grams in"),
        (
            lambda t: t.replace("-0.6\tyes", "-0.6x\tyes"),
            "has '-0.6x' where a number should be",
        ),
        (lambda t: t.replace("-0.6\t", "nan\t"), "has 'nan' where a log10 up to 0 should be"),
        (lambda t: t.replace("-0.6\t", "-inf\t"), "has '-inf' where a log10 up to 0 should be"),
        (lambda t: t.replace("-0.6\t", "-1e999\t"), "has '-1e999' where a log10 up to 0"),
        (lambda t: t.replace("-0.6\t", "0.6\t"), "has '0.6' where a log10 up to 0 should be"),
        (lambda t: t.replace("\t-0.3\n", "\tinf\n"), "has 'inf' where a log10 up to 1000"),
        (lambda t: t.replace("=5", "=²"), "does not count 1-grams in"),
        (lambda t: t.replace("=5", "=" + "5" * 5000), "does not count 1-grams in"),
        (lambda t: "\\data\\\nngram 1=0\n\\1-grams:\n\\end\\", "has no word"),
        (lambda t: t.replace("\\2-grams:", "x" * 5000), "has 1 fields in a line of 1-grams"),
        (lambda t: t.replace("-0.6\tyes no", "-0.6 yes"), "has 2 fields in a line of 2-grams"),
        (lambda t: t.replace("yes no", "yes ja"), "line 15: has 'ja', which is no 1-gram of it"),
        (lambda t: t.replace("yes no", "<s> yes"), "has one of its 2-grams twice"),
        (lambda t: t.replace("no", "yes"), "has one of its 1-grams twice"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change, complaint: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(change(ARPA))
    with pytest.raises(DecodeError) as raised:
        read_arpa(path)
    assert str(raised.value).startswith(str(path)) and complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_damaged_gzip_and_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    for content, complaint in [
        (gzip.compress(ARPA.encode())[:40], "is a truncated or damaged gzip file; copy it again"),
        (b"\x1f\x8bnothing of the kind", "is a truncated or damaged gzip file; copy it again"),
        (b"mmap lm http://\xff\xfe", "binary KenLM model; give the ARPA file it was made from"),
        (gzip.compress(b"\xff\xfe"), "cannot be read as an ARPA file .* is not UTF-8"),
    ]:
        path.write_bytes(content)
        with pytest.raises(EarshotError, match=rf"lm\.arpa: .*{complaint}"):
            read_arpa(path)
    with pytest.raises(ReadError, match="No such file"):
        read_arpa(tmp_path / "none.arpa")


ODD = ["new\u00a0york", "a\u2028b", "x\x0cy", "\u3000", "e\x85", "\ufeffz"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_blanks_and_tabs_only_separate_words(tmp_path: Path, mark: str) -> None:
    unigrams = "".join(f"-1 \t {word}\t\r\n" for word in ODD)
    text = f"{mark}\\data\\\nngram 1 ={len(ODD)}\n\n\\1-grams:\n{unigrams}\\end\\"
    (tmp_path / "lm.arpa").write_bytes(text.encode())
    assert read_arpa(tmp_path / "lm.arpa").vocabulary == ODD


LETTERS = Alphabet.of(card("ctc", ("<blank>", " ", *"abcno")))
NAMES = Alphabet.of(card("ctc", ("<blank>", "Ann", "Bob")))
WEIGHTS = Weights(alpha=0.5, beta=1.0, oov=-3.0)


def score_of(alphabet: Alphabet, model: NgramModel, text: str) -> float:
    """What a language model adds to a whole text."""
    guide = language_model(alphabet, model, WEIGHTS)
    state, total = guide.start(), 0.0
    for label in alphabet.must_spell(text, "test"):
        total += guide.rows([state])[0, label]
        state = guide.advance(state, label)
    return total + guide.final(state)


@pytest.mark.parametrize("split", [str.split, list])
def test_a_model_in_capitals_counts_as_one_in_lower_case(
    split: Callable[[str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    texts = [split(text) for text in ("cab", "no cab", "ban cab", "no")]
    lower = built([[word.replace(" ", "<space>") for word in text] for text in texts], 2)
    capitals = [[word.upper().replace(" ", "<space>") for word in text] for text in texts]
    upper = built(capitals, 2, "upper")
    for text in ("cab", "no ban", "on no"):
        assert score_of(LETTERS, upper, text) == score_of(LETTERS, lower, text)
    assert {r.message for r in caplog.records} == {
        f"upper: {len(lower.vocabulary) - (split is list)} of its words have "
        "capitals and are read in lower case, like the labels of the acoustic model"
    }


def test_words_that_differ_in_case_only_are_not_merged(caplog: pytest.LogCaptureFixture) -> None:
    model = built([["no", "No", "on", "can"]], 2, "mixed")
    score_of(LETTERS, model, "no")
    (record,) = caplog.records
    assert record.message.startswith("mixed: 1 of its 4 words cannot be spelt with the labels")


def test_labels_with_capitals_keep_those_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    model = built([["Ann", "Bob"]], 2, "names")
    expected = sum(score for score, _ in sentence_scores(model, ["Ann", "Bob"]))
    assert score_of(NAMES, model, "Ann Bob") == pytest.approx(0.5 * expected + 2.0)
    assert not caplog.records


def test_words_that_cannot_be_spelt_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    score_of(LETTERS, built([["no", "can", "on"], ["größe", "no\u00a0can"]], 1, "lm.arpa"), "no")
    (record,) = caplog.records
    assert record.message == (
        "lm.arpa: 2 of its 5 words cannot be spelt with the labels of the acoustic model and are "
        "not recognised"
    )


SENTENCES = [
    text.split()
    for text in (
        "no no yes",
        "yes no maybe so",
        "so no yes",
        "maybe yes so no",
        "no so yes yes",
        "maybe maybe so",
    )
]


def test_counts_do_not_depend_on_how_much_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built(SENTENCES, 4)
    monkeypatch.setattr(counts, "CHUNK", 3)
    monkeypatch.setattr(counts, "SAMPLED", 2)
    parts = built(SENTENCES, 4)
    for level, expected in zip(parts.levels, whole.levels, strict=True):
        assert (level.words[:] == expected.words[:]).all()
        assert level.log_p[:] == pytest.approx(expected.log_p[:], abs=1e-12)


def test_the_most_frequent_words_are_kept_and_others_are_unknown() -> None:
    model = built(SENTENCES, 2, vocabulary=2)
    assert sorted(model.vocabulary) == ["no", "yes"]
    replaced = [[w if w in ("no", "yes") else "other" for w in words] for words in SENTENCES]
    other = built(replaced, 2)  # which has an <unk> beside, of no text
    for word, same in (("no", "no"), (None, "other")):
        found = model.score(context_after(model, ["yes"]), word)[0]
        expected = other.score(context_after(other, ["yes"]), same)[0]
        assert expected < found < expected + 0.1
    assert total_probability(model, ["so"]) == pytest.approx(1.0)


def total_probability(model: NgramModel, words: list[str]) -> float:
    """The sum over all words, the end and <unk>, after the first words of a sentence."""
    row = model.row(context_after(model, [START, *words]))
    return float(np.exp(row).sum())


CONTEXTS = [[], ["no"], ["yes", "no"], ["so"], ["maybe", "so"], ["never"]]


def test_rare_sequences_are_left_out_and_the_rest_adds_up() -> None:
    model, every = built(SENTENCES, 3, least=2), built(SENTENCES, 3)
    assert [len(level) for level in model.levels[1:]] == [
        sum(count >= 2 for count in gram_counts(n).values()) for n in (2, 3)
    ]
    assert len(every.levels[2]) > len(model.levels[2]) > 0
    for words in CONTEXTS:
        assert total_probability(model, words) == pytest.approx(1.0)


def gram_counts(n: int) -> Counter[tuple[str, ...]]:
    padded = [(START, *sentence, END) for sentence in SENTENCES]
    return Counter(s[i : i + n] for s in padded for i in range(len(s) - n + 1))


def test_pruning_leaves_out_what_matters_least() -> None:
    """Each n-gram that goes costs less than the threshold, by the definition of the divergence."""
    whole = build([(SENTENCES, 1.0)], Plan(order=2))
    counted, size = gram_counts(1), sum(len(s) + 1 for s in SENTENCES)
    model = whole.finished("whole")
    losses: dict[tuple[str, str], float] = {}
    for before, word in gram_counts(2):
        context = context_after(model, [before])
        row, lower = model.row(context), model.row(())
        explicit = [model.number(w) or 0 for b, w in gram_counts(2) if b == before and w != word]
        other = [k for k in range(len(row)) if k not in explicit]
        other.remove(MARKS.index(START))
        mass = 1.0 - np.exp(row[explicit]).sum()
        changed = lower[other] + np.log(mass / np.exp(lower[other]).sum())
        share = counted[before,] / size
        losses[before, word] = share * (np.exp(row[other]) * (row[other] - changed)).sum()
    for threshold in (0.001, 0.003, 0.01, 0.05):
        pruned = prune(whole, threshold).finished("pruned")
        kept = {pair for pair, loss in losses.items() if math.expm1(loss) >= threshold}
        assert len(pruned.levels[1]) == len(kept)
        for before, word in kept:
            score = model.score(context_after(model, [before]), word)[0]
            assert pruned.score(context_after(pruned, [before]), word)[0] == score
        for words in CONTEXTS:
            assert total_probability(pruned, words) == pytest.approx(1.0)


def test_mixing_weighs_the_probabilities_of_both() -> None:
    first, second = SENTENCES[:3], SENTENCES[3:]
    mixed = build([(first, 0.3), (second, 0.7)], Plan(order=3)).finished("mixed")
    # Apart they do not have the words of the other: those are added as single words of no text.
    parts = [estimated_with_vocabulary(texts) for texts in (first, second)]
    for words in CONTEXTS:
        assert total_probability(mixed, words) == pytest.approx(1.0)
    seen = {ngram for n in (1, 2, 3) for ngram in gram_counts(n)} - {(START,)}
    for *before, word in seen:
        log_ps = [model.score(context_after(model, before), word)[0] for model in parts]
        expected = 0.3 * math.exp(log_ps[0]) + 0.7 * math.exp(log_ps[1])
        found = mixed.score(context_after(mixed, before), word)[0]
        assert math.exp(found) == pytest.approx(expected)


def estimated_with_vocabulary(sentences: Sequence[Sequence[str]]) -> NgramModel:
    """The model of some of the SENTENCES with the words of all."""
    models: list[NgramModel] = []

    def keep(parts: Sequence[Model], shares: Sequence[float]) -> Model:
        models.extend(part.finished("part") for part in parts)
        return parts[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.training.ngrams.build.mix", keep)
        build([(sentences, 0.5), (SENTENCES, 0.5)], Plan(order=3))
    return models[0]


def test_perplexity_of_a_uniform_model() -> None:
    table = {(w,): (math.log(0.25), 0.0) for w in ("a", "b", "c", END)}
    model = model_of(table)
    assert perplexity(model, [["a", "b"], ["x"]]) == (pytest.approx(4.0), 4, 1)


def test_the_commands_build_and_measure(tmp_path: Path) -> None:
    text, lm = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("Turn ON\n\nturn off\n")
    result = run_asr("lm", "build", text, "-o", lm, "--order", "2")
    assert (result.returncode, result.stdout) == (0, "")
    assert sorted(read_arpa(lm).vocabulary) == ["off", "on", "turn"]
    result = run_asr("lm", "perplexity", lm, text)
    assert result.stdout.startswith("perplexity ")
    assert result.stdout.endswith("over 6 words and sentence ends; 0 words unknown\n")
    result = run_asr("lm", "build", text, "-o", lm, "--characters")
    assert set(read_arpa(lm).vocabulary) == {*"turnof", "<space>"}
    assert run_asr("lm", "perplexity", lm, text).stdout.startswith("perplexity ")


def test_faults_of_the_commands_are_one_line(tmp_path: Path) -> None:
    empty, marked, lm = tmp_path / "empty.txt", tmp_path / "marked.txt", tmp_path / "lm.arpa"
    empty.write_text("\n \n")
    marked.write_text("a </s> b\n")
    for arguments, complaint in [
        (("build", empty, "-o", lm), "have no word in them"),
        (("build", marked, "-o", lm), f"{marked}, text 1: has </s> as a word"),
        (("build", tmp_path / "none.txt", "-o", lm), "none.txt: cannot be read as text"),
        (("perplexity", empty, marked), f"{empty}: has no \\data\\ line"),
    ]:
        result = run_asr("lm", *arguments)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and complaint in line and result.returncode == 2
    assert not lm.exists()
