"""What limits or raises the texts of a beam search: word lists, hotwords, grammars."""
