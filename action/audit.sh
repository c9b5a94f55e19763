#!/usr/bin/env bash
# Runs one audit for action.yml: settings come in the environment, the bracket goes to the step's outputs and summary.
# The exit status is that of stackelberg: 0, 1 where the floor is not met, 2 for bad input.
set -euo pipefail

out=${STACKELBERG_OUT:-stackelberg-audit}
words=(audit "$STACKELBERG_MODEL" --data "$STACKELBERG_DATA_SOURCE" --eps "$STACKELBERG_EPS" --out "$out")
words+=(--norm "${STACKELBERG_NORM:-linf}" --n "${STACKELBERG_N:-1000}" --effort "${STACKELBERG_EFFORT:-standard}")
words+=(--sarif "$out/audit.sarif" --json)
if [ -n "${STACKELBERG_NETWORK:-}" ]; then
    words+=(--model "$STACKELBERG_NETWORK")
fi
if [ -n "${STACKELBERG_FAIL_UNDER:-}" ]; then
    words+=(--fail-under "$STACKELBERG_FAIL_UNDER" --junit "$out/audit.xml")
fi

status=0
answer=$(stackelberg "${words[@]}") || status=$?
if [ "$status" -gt 1 ]; then
    exit "$status"
fi

printf '%s' "$answer" | python -c '
import json, os, sys

said = json.load(sys.stdin)
ends = said["robust_accuracy"]
upper, lower = ends["upper"], ends["lower"]
with open(os.environ.get("GITHUB_OUTPUT", os.devnull), "a", encoding="utf-8") as outputs:
    for name, value in {
        "upper": upper["value"],
        "lower": lower["value"],
        "report": said["page"],
        "sarif": os.path.join(os.path.dirname(said["page"]), "audit.sarif"),
    }.items():
        print(f"{name}={value}", file=outputs)
with open(os.environ.get("GITHUB_STEP_SUMMARY", os.devnull), "a", encoding="utf-8") as summary:
    threat = said["threat"]
    print("### Robustness audit", file=summary)
    print(file=summary)
    print("| right unmoved | attacked | certified | threat | examples |", file=summary)
    print("|---|---|---|---|---|", file=summary)
    shares = [said["clean_accuracy"], upper, lower]
    cells = [f"{100 * share['"'"'value'"'"']:.1f} % [{100 * share['"'"'low'"'"']:.1f}, {100 * share['"'"'high'"'"']:.1f}]" for share in shares]
    cells += [f"{threat['"'"'norm'"'"']} {threat['"'"'radius'"'"']:g}", str(said["n"])]
    print("| " + " | ".join(cells) + " |", file=summary)
    for code in said["warnings"]:
        print(f"\n- {code}", file=summary)
'
exit "$status"
