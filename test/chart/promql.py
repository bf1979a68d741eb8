"""Reads a JSON list of PromQL expressions from standard input, and names each that is none."""

import json
import sys

import promql_parser

wrong = []
for expression in json.load(sys.stdin):
    try:
        promql_parser.parse(expression)
    except ValueError as error:
        wrong.append(f"{expression}: {error}")
sys.exit("\n".join(wrong) or 0)
