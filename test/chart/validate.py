"""Reads manifests from standard input, checks each against the Kubernetes API's schema, and prints them as JSON."""

import json
import sys

import kubernetes_validate
import yaml

# No schema of these is at hand.
OTHER_APIS = {"monitoring.coreos.com", "gateway.networking.k8s.io"}

manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
for manifest in manifests:
    if manifest["apiVersion"].split("/")[0] in OTHER_APIS:
        continue
    try:
        kubernetes_validate.validate(manifest, sys.argv[1], strict=True)
    except kubernetes_validate.ValidationError as error:
        sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}: {error.message} at {'.'.join(map(str, error.path))}")
json.dump(manifests, sys.stdout)
