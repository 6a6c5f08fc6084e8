#!/usr/bin/env python3
"""Judges exactly once, from outside: Python's standard library and nothing of rapport.

Reads what Kafka's Java console consumer printed of four topics (read_committed) and what `rapport score` wrote for the same
interactions, and demands:
  scores        the same, each exactly once, digit for digit (`scored_at` aside), each customer's in the order of the input;
  alerts        the same, each exactly once, and (`id`, `state`) unique;
  dead letters  the same rejects, each exactly once, each pointing at the input record whose key and bytes it carries;
  input         every record accounted for: scored, dead-lettered, or a repeat of an id of its customer that was scored.
Prints one line and exits 0, or the differences and exits 1.
"""

import argparse
import collections
import datetime
import json
import sys

FIELD_END, RECORD_END, HEADER_END, NULL = b"\x1f", b"\x1e\n", b"\x1d", b"\x02null"
HEADERS = ["rapport.topic", "rapport.partition", "rapport.offset", "rapport.error.class", "rapport.error.message"]

Record = collections.namedtuple("Record", "partition offset headers key value")


class Number(str):
    """A JSON number as it was written: 0.1 and 0.10 differ."""

    def __repr__(self):
        return str(self)


def read_dump(path):
    with open(path, "rb") as file:
        pieces = file.read().split(RECORD_END)
    if pieces.pop() != b"":
        sys.exit(f"{path}: ends with half a record")
    records = []
    for piece in pieces:
        partition, offset, headers, key, value = piece.split(FIELD_END, 4)
        pairs = [] if headers == b"NO_HEADERS" else [tuple(h.decode().split(":", 1)) for h in headers.split(HEADER_END)]
        number = lambda field: int(field.split(b":")[1])
        records.append(Record(number(partition), number(offset), pairs, None if key == NULL else key, value))
    return sorted(records, key=lambda r: (r.partition, r.offset))


def parse(text):
    """Fields in order, with numbers as their text."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


def canonical(fields):
    """A form that is equal only where names, order, types and every digit are."""
    if isinstance(fields, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{canonical(v)}" for k, v in fields.items()) + "}"
    if isinstance(fields, list):
        return "[" + ",".join(canonical(v) for v in fields) + "]"
    return str(fields) if isinstance(fields, Number) else json.dumps(fields)


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [parse(line) for line in file]


class Judge:
    def __init__(self):
        self.faults = []

    def fault(self, text):
        self.faults.append(text)

    def same(self, what, expected, found):
        """Both lists hold the same, each as often."""
        expected, found = collections.Counter(expected), collections.Counter(found)
        for item, times in (expected - found).items():
            self.fault(f"{what}: {times} missing: {item}")
        for item, times in (found - expected).items():
            kind = "too many" if item in expected else "not expected"
            self.fault(f"{what}: {times} {kind}: {item}")


def check_scores(judge, expected, records):
    def text(score):
        return canonical({k: v for k, v in score.items() if k != "scored_at"})

    scores = [(r, parse(r.value)) for r in records]
    judge.same("scores", map(text, expected), (text(s) for _, s in scores))
    order, expected_order, partitions = (collections.defaultdict(list) for _ in range(3))
    for score in expected:
        expected_order[score["customer_id"]].append(score["interaction_id"])
    for record, score in scores:
        customer = score["customer_id"]
        order[customer].append(score["interaction_id"])
        partitions[customer].append(record.partition)
        if record.key != customer.encode():
            judge.fault(f"scores: key {record.key!r} of a score of {customer!r}")
        try:
            datetime.datetime.fromisoformat(score["scored_at"].replace("Z", "+00:00"))
        except (KeyError, ValueError) as error:
            judge.fault(f"scores: scored_at of {score['interaction_id']!r}: {error!r}")
    for customer, found in order.items():
        if len(set(partitions[customer])) > 1:
            judge.fault(f"scores: {customer!r} is in partitions {sorted(set(partitions[customer]))}")
        elif found != expected_order[customer]:
            judge.fault(f"scores: {customer!r} is not in the order of its input")
    return scores


def check_alerts(judge, expected, records):
    alerts = [parse(r.value) for r in records]
    judge.same("alerts", map(canonical, expected), map(canonical, alerts))
    for (alert, state), times in collections.Counter((a["id"], a["state"]) for a in alerts).items():
        if times > 1:
            judge.fault(f"alerts: {times} times {state} of {alert}")
    for record, alert in zip(records, alerts):
        if record.key != alert["customer_id"].encode():
            judge.fault(f"alerts: key {record.key!r} of an alert of {alert['customer_id']!r}")


def check_dead_letters(judge, rejects, records, inputs, topic):
    def shown(value):
        return value.decode("utf-8", "replace")

    places = {(r.partition, r.offset): r for r in inputs}
    found, dead = [], set()
    for record in records:
        headers = dict(record.headers)
        if sorted(headers) != sorted(HEADERS) or len(record.headers) != len(HEADERS):
            judge.fault(f"dead letters: headers {record.headers}")
            continue
        place = (int(headers["rapport.partition"]), int(headers["rapport.offset"]))
        origin = places.get(place)
        if headers["rapport.topic"] != topic or origin is None:
            judge.fault(f"dead letters: points at {headers['rapport.topic']} {place}, which the input does not have")
        elif (origin.key, origin.value) != (record.key, record.value):
            judge.fault(f"dead letters: key or bytes differ from the input's at {place}")
        if place in dead:
            judge.fault(f"dead letters: two of the input at {place}")
        dead.add(place)
        found.append((headers["rapport.error.class"], headers["rapport.error.message"], shown(record.value)))
    judge.same("dead letters", ((r["class"], r["message"], r["raw"]) for r in rejects), found)
    return dead


def check_input(judge, inputs, dead, scores):
    """Every input has its one end, told from the input alone."""
    scored = collections.Counter((s["customer_id"], s["interaction_id"]) for _, s in scores)
    seen, repeats = set(), 0
    for record in inputs:
        if (record.partition, record.offset) in dead:
            continue
        try:
            interaction = parse(record.value)
            identity = (interaction["customer_id"], interaction["id"])
        except (ValueError, KeyError, TypeError) as error:
            judge.fault(f"input: {error!r} and no dead letter: {record.value[:200]!r}")
            continue
        repeats += identity in seen
        seen.add(identity)
        if scored[identity] != 1:
            judge.fault(f"input: {identity} has {scored[identity]} scores")
    for identity in scored.keys() - seen:
        judge.fault(f"input: a score of {identity}, which was never sent")
    return repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["expected-scores", "expected-alerts", "expected-rejects", "scores", "alerts", "dead-letters", "input", "topic"]:
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    judge = Judge()
    inputs = read_dump(args.input)
    expected = read_lines(args.expected_scores)
    if not expected or not inputs:
        judge.fault("nothing to compare: no expected score or no input")
    scores = check_scores(judge, expected, read_dump(args.scores))
    alerts = read_dump(args.alerts)
    check_alerts(judge, read_lines(args.expected_alerts), alerts)
    letters = read_dump(args.dead_letters)
    dead = check_dead_letters(judge, read_lines(args.expected_rejects), letters, inputs, args.topic)
    repeats = check_input(judge, inputs, dead, scores)
    for fault in judge.faults[:20]:
        print(fault[:1000])
    if judge.faults:
        sys.exit(f"not exactly once: {len(judge.faults)} faults")
    print(f"exactly once: {len(inputs)} inputs, {len(scores)} scores, {len(alerts)} alerts, {len(letters)} dead letters, {repeats} repeats")


if __name__ == "__main__":
    main()
