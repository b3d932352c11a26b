"""Checks AuditEvents with fhir.resources, and checks that it would have found broken ones.

usage: validate_fhir.py r4b|r5 NDJSON-FILE BUNDLE-FILE
"""

import base64
import copy
import importlib
import json
import sys

release, ndjson, bundle = sys.argv[1:]
package = "fhir.resources.R4B" if release == "r4b" else "fhir.resources"
AuditEvent = importlib.import_module(package + ".auditevent").AuditEvent
Bundle = importlib.import_module(package + ".bundle").Bundle


def problem(model, resource):
    """Why the resource is refused, or None. JSON goes in as text, as a server would get it."""
    try:
        model.model_validate_json(json.dumps(resource))
    except Exception as e:  # pydantic's own, and what the models of FHIR raise themselves
        return str(e)
    return None


resources = [json.loads(line) for line in open(ndjson, encoding="utf-8")]
failed = 0
for resource in resources:
    found = problem(AuditEvent, resource)
    if found:
        failed += 1
        print("REFUSED", resource["id"], found[:2000])
    # The models take any text as base64.
    for entity in resource["entity"]:
        json.loads(base64.b64decode(entity.get("query", "e30="), validate=True))
found = problem(Bundle, json.load(open(bundle, encoding="utf-8")))
if found:
    failed += 1
    print("REFUSED the Bundle", found[:2000])


def broken(resource):
    """The same resource broken in one way at a time."""

    def without(key):
        r = copy.deepcopy(resource)
        del r[key]
        return r

    def changed(change):
        r = copy.deepcopy(resource)
        change(r)
        return r

    yield "no recorded", without("recorded")
    yield "no agent", without("agent")
    yield "no source", without("source")
    yield "unknown member", changed(lambda r: r.update(colour="red"))
    yield "unknown member of an agent", changed(lambda r: r["agent"][0].update(colour="red"))
    yield "recorded is no time", changed(lambda r: r.update(recorded="yesterday"))
    yield "agents are no list", changed(lambda r: r.update(agent=r["agent"][0]))
    yield "requestor is no boolean", changed(lambda r: r["agent"][0].update(requestor="perhaps"))
    yield "id with a blank", changed(lambda r: r.update(id="a b"))
    yield "entities are no list", changed(lambda r: r.update(entity=r["entity"][0]))
    yield "no observer", changed(lambda r: r["source"].pop("observer"))
    if release == "r4b":
        yield "no type", without("type")
        yield "no requestor", changed(lambda r: r["agent"][0].pop("requestor"))
        yield "R5's code", changed(lambda r: r.update(code={"text": "x"}))
        yield "detail without type", changed(lambda r: r["entity"][-1]["detail"][0].pop("type"))
    else:
        yield "no code", without("code")
        yield "no who", changed(lambda r: r["agent"][0].pop("who"))
        yield "R4's subtype", changed(lambda r: r.update(subtype=[]))
        yield "two times", changed(
            lambda r: r.update(occurredDateTime="2026-01-01", occurredPeriod={"start": "2026-01-01"})
        )


controls = 0
for name, resource in broken(resources[0]):
    controls += 1
    if problem(AuditEvent, resource) is None:
        failed += 1
        print("ACCEPTED although broken:", name)

print(f"{release}: {len(resources)} resources and a Bundle checked, {controls} broken ones tried, {failed} wrong")
sys.exit(1 if failed or not resources else 0)
