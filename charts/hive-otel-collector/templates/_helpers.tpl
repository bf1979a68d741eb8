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

{{/* A quantity of memory in bytes, as digits. */}}
{{- define "collector.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "%s is no quantity of memory this chart knows: use Mi or Gi." .) }}{{ end -}}
{{- mulf (float64 (trimSuffix $unit .)) (get $units $unit) | int64 -}}
{{- end }}

{{/* Room for the ring, the dead letters, and a twentieth for the file system. */}}
{{- define "collector.volumeSize" -}}
{{- with .Values.diskBuffer }}
{{- $neededMb := add .sizeMb .deadLettersMaxMb (div .sizeMb 20) 64 -}}
{{- if not .volumeSize -}}
{{ $neededMb }}Mi
{{- else if lt (include "collector.bytes" .volumeSize | int64) (mul $neededMb 1048576) -}}
{{ fail (printf "diskBuffer.volumeSize is %s. Needed: %dMi, for sizeMb, deadLettersMaxMb and the file system." .volumeSize $neededMb) }}
{{- else -}}
{{ .volumeSize }}
{{- end }}
{{- end }}
{{- end }}

{{/* Settings that are each valid but can't go together. */}}
{{- define "collector.checkValues" -}}
{{- with .Values }}
{{- if not (or .clickhouse.url (and .clickhouse.existingSecret .clickhouse.secretKeys.url)) }}{{ fail "clickhouse.url is not set: give it, or a Secret in clickhouse.existingSecret with the key clickhouse.secretKeys.url." }}{{ end -}}
{{- if and .clickhouse.url .clickhouse.existingSecret .clickhouse.secretKeys.url }}{{ fail "clickhouse.url and clickhouse.secretKeys.url are both set: give one of them." }}{{ end -}}
{{- if not (or .auth.endpoint .auth.disabled) }}{{ fail "auth.endpoint is not set: give Hive's auth endpoint, or set auth.disabled to accept everyone." }}{{ end -}}
{{- if .memBufferSizeMb }}
{{- $limit := dig "limits" "memory" "" .resources | toString -}}
{{- if not $limit }}{{ fail "memBufferSizeMb is set, and resources.limits.memory is not: give a limit of four times as much, or more." }}{{ end -}}
{{- if gt (mul .memBufferSizeMb 4194304) (include "collector.bytes" $limit | int64) }}{{ fail (printf "memBufferSizeMb is %d, and resources.limits.memory is %s. Needed: four times as much (%dMi), as parsing, compressing and V8 itself need memory beside it." (int .memBufferSizeMb) $limit (mul .memBufferSizeMb 4)) }}{{ end -}}
{{- end }}
{{- if and .monitoring.monitor.enabled (not (has .monitoring.monitor.kind (list "PodMonitor" "ServiceMonitor"))) }}{{ fail "monitoring.monitor.kind: PodMonitor or ServiceMonitor." }}{{ end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}{{ fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas." }}{{ end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs is empty: name the Gateway." }}{{ end -}}
{{- range $name := list "PORT" "GRPC_PORT" "HEALTH_PORT" "HEALTHCHECK_PORT" "ADMIN_ALLOWED_HOSTS" "DISABLE_AUTH" "HIVE_OTEL_AUTH_ENDPOINT" "CLICKHOUSE_URL" "CLICKHOUSE_DATABASE" "CLICKHOUSE_TABLE" "ENABLE_DISK_BUFFER" "DISK_BUFFER_DIR" "DISK_BUFFER_MAX_SIZE_MB" "DISK_BUFFER_SYNC" "DEAD_LETTERS_MAX_MB" "MEM_BUFFER_SIZE_MB" "MAX_CONNECTION_AGE_MS" "GRPC_MAX_CONNECTION_AGE_MS" "SHUTDOWN_TIMEOUT_MS" }}
{{- if hasKey $.Values.env $name }}{{ fail (printf "env.%s: this chart sets it; see values.yaml for the value it comes from." $name) }}{{ end -}}
{{- end }}
{{- end }}
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
  value: {{ if kindIs "float64" $value }}{{ $value | toJson | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
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
