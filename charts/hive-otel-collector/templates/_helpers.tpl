{{- define "collector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "collector.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "collector.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "collector.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "collector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "collector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: collector
{{- end }}

{{/* Of everything but the pods' selector. */}}
{{- define "collector.labels" -}}
app.kubernetes.io/name: {{ include "collector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "collector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "collector.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "collector.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* A quantity of memory or disk in bytes, as digits. */}}
{{- define "collector.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "T" 1000000000000 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "%s is not a size that this chart accepts: use Mi or Gi." .) }}{{ end -}}
{{- mulf (float64 (trimSuffix $unit .)) (get $units $unit) | int64 -}}
{{- end }}

{{/* Does not follow sizeMb and deadLettersMaxMb: Kubernetes does not allow changes to the volume claims of a StatefulSet. */}}
{{- define "collector.volumeSize" -}}
{{- with .Values.diskBuffer }}
{{- $neededMb := add .sizeMb .deadLettersMaxMb (div .sizeMb 20) 64 -}}
{{- /* Empty by default in an earlier chart, which --reuse-values keeps. */ -}}
{{- $size := .volumeSize | default "2Gi" -}}
{{- if lt (include "collector.bytes" $size | int64) (mul $neededMb 1048576) -}}
{{- fail (printf "diskBuffer.volumeSize is %s. Needed: %dMi, for sizeMb, deadLettersMaxMb and the file system." $size $neededMb) -}}
{{- end -}}
{{ $size }}
{{- end }}
{{- end }}

{{/* Settings that are each valid but can't go together, and values that the schema can't explain. */}}
{{- define "collector.checkValues" -}}
{{- with .Values }}
{{- if not (or .clickhouse.url (and .clickhouse.existingSecret .clickhouse.secretKeys.url)) }}{{ fail "clickhouse.url is not set: give it, or a Secret in clickhouse.existingSecret with the key clickhouse.secretKeys.url." }}{{ end -}}
{{- if and .clickhouse.url .clickhouse.existingSecret .clickhouse.secretKeys.url }}{{ fail "clickhouse.url and clickhouse.secretKeys.url are both set: give one of them." }}{{ end -}}
{{- $url := `https?://[^,/?#]+([/?][^,#]*)?` -}}
{{- if and .clickhouse.url (not (regexMatch (printf `^%s(,\s*%s)*$` $url $url) .clickhouse.url)) -}}
{{- fail (cat "clickhouse.url is not valid. Allowed: ClickHouse over HTTP, for example http://clickhouse:8123, or a comma-separated"
  "list of such URLs.") -}}
{{- end -}}
{{- range $key := list "database" "table" }}
{{- if not (regexMatch `^[^\x00-\x1f\x7f-\x{9f}]+$` (get $.Values.clickhouse $key)) -}}
{{- fail (printf "clickhouse.%s is not valid. Allowed: a name without control characters, for example otel_traces." $key) -}}
{{- end -}}
{{- end -}}
{{- if not (or .auth.endpoint .auth.disabled) }}{{ fail "auth.endpoint is not set: give Hive's auth endpoint, or set auth.disabled to accept everyone." }}{{ end -}}
{{- if and .auth.endpoint (not (regexMatch `^https?://[^/?#@]+([/?#].*)?$` .auth.endpoint)) -}}
{{- fail "auth.endpoint is not valid. Allowed: a URL without credentials in it, for example https://hive.example.com/otel-auth." -}}
{{- end -}}
{{- if and .image.digest (not (regexMatch `^sha256:[0-9a-f]{64}$` .image.digest)) -}}
{{- fail (printf "image.digest is %q. Allowed: sha256: and 64 hexadecimal digits. A tag belongs in image.tag." .image.digest) -}}
{{- end -}}
{{- range .admin.allowedHosts }}
{{- if not (regexMatch `^(\*|(\*\.)?[A-Za-z0-9_.-]+)$` .) -}}
{{- fail (printf "admin.allowedHosts has %q. Allowed: names of hosts, for example status.example.com or *.example.com." .) -}}
{{- end -}}
{{- end -}}
{{- $most := .podDisruptionBudget.maxUnavailable | toString -}}
{{- if not (regexMatch `^[0-9]+%?$` $most) -}}
{{- fail (printf "podDisruptionBudget.maxUnavailable is %q. Allowed: a number of pods or a percentage, for example 1 or 25%%." $most) -}}
{{- end -}}
{{- if .memBufferSizeMb }}
{{- $limit := dig "limits" "memory" "" .resources | toString -}}
{{- if not $limit }}{{ fail "memBufferSizeMb is set, and resources.limits.memory is not: give a limit of four times as much, or more." }}{{ end -}}
{{- if gt (mul .memBufferSizeMb 4194304) (include "collector.bytes" $limit | int64) }}{{ fail (printf "memBufferSizeMb is %d, and resources.limits.memory is %s. Needed: four times as much (%dMi), as parsing, compressing and V8 itself need memory in addition." (int .memBufferSizeMb) $limit (mul .memBufferSizeMb 4)) }}{{ end -}}
{{- end }}
{{- if and .monitoring.monitor.enabled (not (has .monitoring.monitor.kind (list "PodMonitor" "ServiceMonitor"))) }}{{ fail "monitoring.monitor.kind is not valid. Allowed: PodMonitor, ServiceMonitor." }}{{ end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}{{ fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas." }}{{ end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs is empty: name the Gateway." }}{{ end -}}
{{- end }}
{{- include "collector.checkEnv" . -}}
{{- include "collector.checkRelease" . -}}
{{- end }}

{{/* How ClickHouse is reached: for the collector, the schema job and the test. */}}
{{- define "collector.clickhouseEnv" -}}
{{- with .Values.clickhouse }}
{{- if .url }}
- name: CLICKHOUSE_URL
  value: {{ .url | quote }}
{{- end }}
{{- if .existingSecret }}
{{- range $name, $key := .secretKeys }}
{{- if $key }}
- name: CLICKHOUSE_{{ upper $name }}_FILE
  value: /run/secrets/clickhouse/{{ $name }}
{{- end }}
{{- end }}
{{- end }}
- name: CLICKHOUSE_DATABASE
  value: {{ .database | quote }}
- name: CLICKHOUSE_TABLE
  value: {{ .table | quote }}
{{- end }}
{{- end }}

{{/* What the values `env` and `extraEnv` add. */}}
{{- define "collector.furtherEnv" -}}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ include "collector.text" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "collector.clickhouseVolumeMount" -}}
{{- if .Values.clickhouse.existingSecret }}
- name: clickhouse
  mountPath: /run/secrets/clickhouse
  readOnly: true
{{- end }}
{{- end }}

{{- define "collector.clickhouseVolume" -}}
{{- with .Values.clickhouse }}
{{- if .existingSecret }}
- name: clickhouse
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- range $name, $key := .secretKeys }}
      {{- if $key }}
      - key: {{ $key | quote }}
        path: {{ $name }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "collector.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "collector.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The port of a URL. */}}
{{- define "collector.portOf" -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}
