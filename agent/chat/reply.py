"""The answers of the tools, by templates in the language of the user.

A text of a record stands on one line, within a line of the agent's: see `agent.chat.conversation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.chat.conversation import Conversation
from agent.chat.language_model import ChatModelTraits
from agent.chat.pasted import MAX_OF_FILE, requests_of, requests_of_file, source_of
from agent.chat.sentences import HELP, HOW_FILE, HOW_LEARN, QUESTIONS, UNCLEAR
from agent.chat.tools import HistoryView, Tools
from agent.core.errors import EXPECTED, UsageError, describe
from agent.core.locale import Translate
from agent.core.records import VERDICT_LABELS, Verdict
from agent.data.readers import RowError
from agent.explain.headline import headline, label_in_words, quoted
from agent.explain.plain_facts import plain, plain_facts
from agent.pipeline.context import AppContext
from agent.pipeline.llm_explanation import sentences_for_stored_verdict
from agent.training.opposing_corrections import HeldView

# records of which a list shows a line each
_SHOWN = 10


class Reply:
    """One method for each tool: its answer by templates."""

    def __init__(self, context: AppContext, tools: Tools, conversation: Conversation, translate: Translate) -> None:
        self._context, self._tools, self._conversation, self._ = context, tools, conversation, translate

    def greet(self, *, thanks: bool = False) -> Iterator[str]:
        """A greeting, and the sources; a word for thanks and farewells."""
        if thanks:
            yield self._("You are welcome.")
            return
        names = ", ".join(self._context.casebook.names())
        yield self._("Hello. Paste a record and I judge it; write help to see what else I can do.")
        if names:
            yield "\n" + self._("Sources: {names}.").format(names=names)

    def help(self, topic: str = "") -> Iterator[str]:
        """What can be written, or how a file is learned or judged."""
        yield self._({"learn": HOW_LEARN, "file": HOW_FILE}.get(topic, HELP))

    def language(self, language: str | None) -> Iterator[str]:
        """Answer in another language from now on."""
        yield self._(
            "I answer in English, 한국어 or 中文: write which." if language is None else "I answer in English now."
        )
        if language:
            yield f"\nlanguage: {language}"

    def sources(self) -> Iterator[str]:
        """The sources with their numbers of cases."""
        rows = self._tools.sources()
        form = self._("{name}: {normal} normal and {anomalous} anomalous cases")
        for row in rows:
            yield "- " + form.format(name=row.name, **row.counts) + "\n"
        if not rows:
            yield self._("There is no source yet. Learning labelled records creates one.")

    def use(self, name: str) -> Iterator[str]:
        """Choose the source of the records that follow."""
        name = self._tools.source(name)
        sentence = "records are now judged as source {name}"
        translated = self._(sentence).format(name=name)
        yield translated if translated == sentence.format(name=name) else f"{translated}\nsource: {name}"

    def clarify(self, about: str = "", listed: int = 0, name: str = "") -> Iterator[str]:
        """Ask what is meant."""
        if about == "pending" and self._conversation.pending:
            yield from self._ask_again(*self._conversation.pending)
            return
        names = ", ".join(self._context.casebook.names())
        form = self._(QUESTIONS.get(about, UNCLEAR))
        yield form.format(names=names or "-", listed=listed, name=quoted(name, 100))

    def _ask_again(self, target: str, change: str) -> Iterator[str]:
        if target.startswith("v"):
            yield from self.correct(target, change)
        else:
            yield from self.ask_case(target, change)

    def judge(self, text: str, source: str | None = None) -> Iterator[str]:
        """The verdicts on pasted records."""
        names = self._context.casebook.names()
        requests = requests_of(text, source, self._context.settings.max_record_chars)
        source = source or requests[0].source or self._conversation.chosen_source
        source = source or source_of(text, self._context) or self._conversation.source
        if source is None and len(names) > 1:
            form = self._("Which source is the record from? Write `use NAME` once, or NAME> before it: {names}")
            yield form.format(names=", ".join(names))
            return
        requests = [request.model_copy(update={"source": request.source or source}) for request in requests]
        if len(requests) == 1:
            verdict = self._tools.judge(requests[0])
            yield self._line(verdict, headline(verdict, self._))
            if verdict.degraded:
                yield "\n" + self._("Degraded: {reasons}").format(reasons=quoted("; ".join(verdict.degraded), 500))
            if verdict.label != "normal":
                yield "\n" + self._("Write why? for the details, or correct me: that was normal.")
            return
        for number, request in enumerate(requests, 1):
            verdict = self._tools.judge(request)
            yield f"{number}. {self._short(verdict)}\n"

    def judge_file(self, path: Any) -> Iterator[str]:
        """The counts and the most anomalous of the first records of a file."""
        source = self._conversation.source or self._context.source(None).name
        verdicts, failures = list[Verdict](), 0
        for request in requests_of_file(path, self._context, source):
            if isinstance(request, RowError):
                failures += 1
            else:
                verdicts.append(self._tools.judge(request))
        counts = {label: sum(verdict.label == label for verdict in verdicts) for label in VERDICT_LABELS}
        yield self._counts(source, counts) + "\n"
        if failures:
            yield self._("{number} records could not be read.").format(number=failures) + "\n"
        if len(verdicts) + failures >= MAX_OF_FILE:
            form = self._("These are its first {number} records; `precedent judge FILE` judges all.")
            yield form.format(number=MAX_OF_FILE) + "\n"
        worst = sorted(verdicts, key=lambda verdict: -verdict.probability)
        yield from self._list([verdict for verdict in worst if verdict.label != "normal"][:_SHOWN])

    def explain(self, verdict_id: str, *, numbers: bool = False) -> Iterator[str]:
        """A verdict and its facts, in plain words or with the numbers behind them."""
        verdict = self._tools.verdict(verdict_id)
        yield self._line(verdict, headline(verdict, self._))
        for fact in plain_facts(verdict, self._):
            yield f"\n- {fact}"
        if numbers:
            known = {name: signal for name, signal in verdict.signals.items() if signal is not None}
            signals = ", ".join(f"{name} {signal:+.1f}" for name, signal in known.items())
            yield "\n" + self._("The signals in numbers, above 0 for anomalous: {signals}").format(
                signals=signals or "-"
            )
            # those that plain words say without their numbers
            yield "".join(f"\n- {fact}" for fact in verdict.facts if plain(fact) != fact)
        yield from self._sentences(verdict)

    def _sentences(self, verdict: Verdict) -> Iterator[str]:
        """The sentences of a model that is large enough; those of a small one are often false."""
        try:
            if not ChatModelTraits.of(self._context).writes_reliably:
                return
            for sentence in sentences_for_stored_verdict(self._context, verdict):
                yield f"\n{' '.join(sentence.split())}"
        except EXPECTED as error:
            yield "\n" + self._("(No sentences by the language model: {reason})").format(
                reason=quoted(describe(error), 500)
            )

    def precedents(self, verdict_id: str) -> Iterator[str]:
        """The cases nearest to a verdict's record."""
        verdict = self._tools.verdict(verdict_id)
        if not verdict.precedents:
            form = self._("Verdict {verdict} has no precedents: the casebook of {source} is empty.")
            yield form.format(verdict=verdict_id, source=verdict.source)
        form = self._("{case} {label}, similarity {similarity}: {text}")
        for case in verdict.precedents:
            similarity = f"{case.similarity:.2f}"
            text = quoted(case.text, 200)
            yield f"- {form.format(case=case.case_id, label=self._(case.label), similarity=similarity, text=text)}\n"

    def what_if(self, verdict_id: str, values: Mapping[str, str]) -> Iterator[str]:
        """The verdict if fields had other values."""
        verdict, changed = self._tools.what_if(verdict_id, values)
        shown = ", ".join(
            f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
            for name, value in changed.items()
        )
        yield self._("With {changes}: {headline}").format(
            changes=quoted(shown, 300), headline=headline(verdict, self._)
        )

    def advice(self, verdict_id: str) -> Iterator[str]:
        """What the cases know of what to do."""
        verdict = self._tools.verdict(verdict_id)
        yield self._line(verdict, headline(verdict, self._))
        like = next((case for case in verdict.precedents if case.label == "anomalous"), None)
        if verdict.label == "normal":
            yield "\n" + self._("Nothing needs to be done, as far as the cases show.")
            return
        if like:
            form = self._("I know cases, not repairs: see how {case} *{text}* was handled.")
            yield "\n" + form.format(case=like.case_id, text=quoted(like.text))
        yield "\n" + self._("If it is expected, write that was normal, and records like it follow.")

    def correct(self, verdict_id: str, label: str) -> Iterator[str]:
        """Ask whether to label the record of a verdict."""
        verdict = self._tools.verdict(verdict_id)
        form = self._("Label this record as {label}? “{text}” (yes or no)")
        yield form.format(label=self._(label), text=quoted(verdict.record.text or str(verdict.record.fields), 300))
        yield f"\npending: {verdict_id} {label}"

    def case(self, case_id: str) -> Iterator[str]:
        """A case, and who labelled it what when."""
        case = self._tools.case(case_id)
        form = self._("{case} of {source}, {label}: {text}")
        yield form.format(
            case=case_id, source=case.source, label=self._(case.label), text=quoted(case.record.text, 300)
        )
        given = f"{case.given_at:%Y-%m-%d %H:%M}" if case.given_at else "-"
        yield "\n" + self._("Labelled by {who} on {when} UTC.").format(who=quoted(case.given_by, 100), when=given)
        for change in case.history:
            labels = f"{change.label_before or '-'} → {change.label_after or '-'}"
            yield f"\n- {change.changed_at:%Y-%m-%d %H:%M} {change.action}: {labels} ({quoted(change.changed_by)})"

    def ask_case(self, case_id: str, change: str) -> Iterator[str]:
        """Ask whether to relabel or delete a case."""
        case = self._tools.case(case_id)
        form = self._("Delete case {case}, {label}? “{text}” (yes or no)")
        if change != "delete":
            form = self._("Label case {case} as {new}, which is {label} now? “{text}” (yes or no)")
        text = quoted(case.record.text, 300)
        yield form.format(case=case_id, label=self._(case.label), new=self._(change), text=text)
        yield f"\npending: {case_id} {change}"

    def cases(self, source: str | None, label: Any, words: str, top: int) -> Iterator[str]:
        """Cases with some words."""
        found = False
        for name in [source] if source else self._context.casebook.names():
            page = self._tools.cases(name, label, words, top)
            if not page.total:
                continue
            found = True
            yield self._("{source}: {total} cases").format(source=name, total=page.total) + "\n"
            for case in page.cases:
                yield f"- {case.case_id} {self._(case.label)}: {quoted(case.record.text, 200)}\n"
        if not found:
            yield self._("No case has the words: {words}").format(words=quoted(words) or "-")

    def confirm(self, target: str, change: str) -> Iterator[str]:
        """Make the change that was asked about."""
        if target.startswith("v"):
            case, refitted = self._tools.correct(target, "normal" if change == "normal" else "anomalous")
            if case.held:
                yield self._held(case.held)
                return
            form = self._("Noted: the record of {verdict} is now case {case}, {label}. Similar records will follow it.")
            yield form.format(verdict=target, case=case.case_id, label=self._(case.label))
            if refitted:
                yield "\n" + self._("The source was refitted: {n} changes since the last fit.").format(n=refitted)
        elif change == "delete":
            self._tools.delete(target)
            yield self._("Case {case} is deleted.").format(case=target)
        elif self._tools.case(target).label == change:
            yield self._("Case {case} is {label} already.").format(case=target, label=self._(change))
            return
        else:
            relabelled = self._tools.relabel(target, "normal" if change == "normal" else "anomalous")
            if relabelled.held:
                yield self._held(relabelled.held)
                return
            yield self._("Case {case} is now {label}.").format(case=target, label=self._(change))
        yield f"\nchanged: {target}"

    def _held(self, held: HeldView) -> str:
        form = self._("Held as {held}, and without effect until a second person confirms it: {reason}.")
        return form.format(held=held.held_id, reason=held.reason)

    def decline(self) -> Iterator[str]:
        """Change nothing."""
        yield self._("Nothing was changed.")

    def undo(self, target: str | None) -> Iterator[str]:
        """Undo the last change."""
        if target is None:
            yield from self.clarify("undo")
            return
        change = self._tools.undo(target)
        form = self._("Undone: the record of {case} is no case any more.")
        if change.label_before:
            form = self._("Undone: {case} is {label} again.")
        yield form.format(case=change.case_id, label=self._(change.label_before or ""))
        yield f"\nundone: {target}"

    def history(self, source: str | None, since: Any, top: int, worst: bool) -> Iterator[str]:
        """Counts of past verdicts, and the most anomalous."""
        names = [source] if source else self._context.casebook.names()
        if not names:
            raise UsageError("there is no source yet")
        verdicts = list[Verdict]()
        for name in names:
            view: HistoryView = self._tools.history(name, since, None, top)
            yield self._counts(name, view.counts) + "\n"
            verdicts += [verdict for verdict in view.verdicts if verdict.label != "normal"]
        if worst:
            yield from self._list(sorted(verdicts, key=lambda verdict: -verdict.probability)[:top])

    def listed(self, verdict_ids: Sequence[str], since: Any, top: int, worst: bool) -> Iterator[str]:
        """The worst, or the counts, of verdicts of the conversation."""
        verdicts = [self._tools.verdict(verdict_id) for verdict_id in verdict_ids]
        if worst:
            verdict = max(verdicts, key=lambda verdict: verdict.probability)
            yield self._line(verdict, f"{headline(verdict, self._)} “{quoted(verdict.record.text, 100)}”")
            return
        counts = {label: sum(verdict.label == label for verdict in verdicts) for label in VERDICT_LABELS}
        yield self._counts(None, counts)

    def trend(self, source: str | None) -> Iterator[str]:
        """Whether the share of anomalies changes."""
        for name in [source] if source else self._context.casebook.names():
            trend = self._tools.trend(name)
            shares = [_share(counts) for counts in (trend.day, trend.week)]
            form = self._("{source}: {day} anomalous in the last day ({n} verdicts), {week} in the week before ({m}).")
            numbers = {"n": sum(trend.day.values()), "m": sum(trend.week.values())}
            yield form.format(source=name, day=shares[0], week=shares[1], **numbers) + "\n"
            for finding in trend.findings:
                yield f"- {quoted(finding, 500)}\n"

    def _line(self, verdict: Verdict, text: str) -> str:
        # on one line: a record's text must not begin a line
        return f"verdict {verdict.id} (source {verdict.source}): {text}"

    def _short(self, verdict: Verdict) -> str:
        return self._line(verdict, f"{label_in_words(verdict, self._)} *{quoted(verdict.record.text, 100)}*")

    def _list(self, verdicts: Sequence[Verdict]) -> Iterator[str]:
        for number, verdict in enumerate(verdicts, 1):
            yield f"{number}. {self._short(verdict)}\n"

    def _counts(self, source: str | None, counts: Mapping[str, int]) -> str:
        form = self._("{n} records: {anomalous} anomalous, {unsure} unsure, {normal} normal.")
        numbers = {label: counts.get(label, 0) for label in ("anomalous", "unsure", "normal")}
        text = form.format(n=sum(numbers.values()), **numbers)
        return f"{source}: {text}" if source else text


def _share(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{100 * counts.get('anomalous', 0) / total:.0f} %" if total else "-"
