#!/usr/bin/env bash
# The chart in a real cluster: the current one of kubectl, which has the image collector:ci. Installs it, sends load through a rolling
# update that resizes the disk buffers, upgrades that are refused, an outage of ClickHouse and a scale-down, and compares acknowledged
# spans with stored ones. Takes about ten minutes. GitHub's workflow runs it in kind.
set -euo pipefail
cd "$(dirname "$0")"

chart=../../../charts/hive-otel-collector
values=(
  --set image.repository=collector --set image.tag=ci --set image.pullPolicy=Never --set auth.disabled=true
  --set clickhouse.url=http://clickhouse:8123 --set clickhouse.existingSecret=clickhouse --set schemaJob.enabled=true
  --set resources.requests.cpu=100m --set resources.requests.memory=256Mi --set resources.limits.memory=512Mi
  --set diskBuffer.volumeSize=512Mi --set diskBuffer.deadLettersMaxMb=16 --set shutdownTimeoutSeconds=15
)
name=collector-hive-otel-collector
step() { printf '\n== %s\n' "$1"; }
upgrade() { helm upgrade collector "$chart" "${values[@]}" --wait --timeout 5m "$@"; }
pods() { kubectl get statefulset "$name" --output jsonpath='{.spec.replicas}'; }
fail() { echo "$1" >&2; exit 1; }
trap 'kubectl get pods,pvc,statefulset --output wide; kubectl logs "$name-0" --tail 30 || true; kubectl logs load --tail 30 || true' ERR

step 'ClickHouse, and the chart with three pods'
kubectl apply --filename clickhouse.yaml
kubectl rollout status statefulset/clickhouse --timeout 5m
helm install collector "$chart" "${values[@]}" --set replicas=3 --set diskBuffer.sizeMb=64 --wait --timeout 5m

step 'helm test, with its log'
helm test collector --logs | grep 'The trace is stored once.'

step 'load'
kubectl create configmap load --from-file load.mjs
kubectl apply --filename load.yaml
kubectl wait pod/load --for condition=Ready --timeout 2m
sleep 10

step 'a rolling update that gives the disk buffers another size'
upgrade --set replicas=3 --set diskBuffer.sizeMb=128
kubectl rollout status "statefulset/$name" --timeout 5m
kubectl logs "$name-0" --container resize | grep 'and has 128 MB now'

step 'an upgrade that Kubernetes would refuse: the chart does, and applies nothing'
larger=(--set replicas=3 --set diskBuffer.sizeMb=128 --set diskBuffer.volumeSize=600Mi)
if upgrade "${larger[@]}" --set service.port=80 2>refusal; then fail 'It was not refused.'; fi
grep -e '--cascade=orphan' refusal
test "$(kubectl get service "$name" --output jsonpath='{.spec.ports[0].port}')" = 4318

step 'the same upgrade by the recipe'
kubectl delete statefulset "$name" --cascade=orphan
upgrade "${larger[@]}"
kubectl rollout status "statefulset/$name" --timeout 5m
values+=(--set diskBuffer.sizeMb=128 --set diskBuffer.volumeSize=600Mi)

step 'autoscaling keeps the number of pods'
upgrade --set autoscaling.enabled=true --set autoscaling.minReplicas=2
test "$(pods)" = 3 || fail "There are $(pods) pods."

step 'ClickHouse away, and a scale-down meanwhile'
kubectl scale statefulset/clickhouse --replicas 0
kubectl wait pod/clickhouse-0 --for delete --timeout 2m
sleep 10
helm upgrade collector "$chart" "${values[@]}" --set schemaJob.enabled=false --set replicas=2 --timeout 5m
kubectl wait "pod/$name-2" --for delete --timeout 2m

step 'ClickHouse back, and the pod that went as well: it sends what it had kept'
kubectl scale statefulset/clickhouse --replicas 1
kubectl rollout status statefulset/clickhouse --timeout 5m
upgrade --set replicas=3
kubectl rollout status "statefulset/$name" --timeout 5m

step 'what was acknowledged, and what is stored'
for _ in $(seq 120); do
  phase=$(kubectl get pod load --output jsonpath='{.status.phase}')
  if [ "$phase" = Succeeded ] || [ "$phase" = Failed ]; then break; fi
  sleep 5
done
kubectl logs load
test "$phase" = Succeeded
