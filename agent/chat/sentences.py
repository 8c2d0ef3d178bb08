"""Longer sentences of the agent, in English: the keys of `agent.core.locale`."""

from __future__ import annotations

HELP = """Paste a record (or several, one per line) to get its verdict. Then you can write:
- why?                          show the facts
- show me the precedents        show the nearest labelled cases
- that was normal               (or: that was anomalous) correct the verdict, after you confirm it; undo takes it back
- what if retries were 3?       judge the row with another value
- what happened since yesterday, which is the worst, is it getting worse, what should I do
- sources                       list the sources
- use NAME                      judge records as that source; or write NAME> before a record
- cases about disk              search the casebook; show, relabel and delete a case by its id
- help                          show this list"""
HOW_LEARN = """A new source is learned from records that have labels, in a terminal or on the page *Source* of the \
console:
precedent learn FILE --source NAME --label COLUMN
Without labels, `precedent judge FILE` ranks what is unusual; label some of it, or correct my verdicts here: \
each correction becomes a case."""
HOW_FILE = """Whole files are judged in a terminal or on the page *Judge* of the console; here you can paste up to \
50 records:
precedent judge FILE --source NAME --output verdicts.csv
`precedent watch FILE --source NAME` follows a log and alerts; `precedent serve` has an HTTP interface, \
described at /docs."""
UNCLEAR = "I am not sure what you mean. Is it a record? Then write SOURCE> before it. Otherwise ask: help."
# what is asked where something is missing, by what that is
QUESTIONS = {
    "verdict": "There is no verdict yet: paste a record first.",
    "record": "Paste the record that I am to judge.",
    "case": "Which case? Write its id, such as c212.",
    "source": "Which source? Write `use NAME`: {names}.",
    "ordinal": "There are {listed} verdicts: which do you mean?",
    "undo": "There is nothing to undo in this conversation. Name the verdict or the case by its id.",
    "chat": "I judge records, and answer about verdicts, cases and sources; I know nothing else. "
    "Write help to see what I can do.",
    "unknown_source": "There is no source {name}. Sources: {names}. "
    "If that is a part of the record, write a source's name and > before it.",
    "file": "I cannot read {name} from here: files are read only by `precedent chat` and `precedent judge` "
    "on their own machine, or upload it on the page *Judge* of the console. Or paste its records.",
    "no_file": "There is no file {name} on this machine.",
}
