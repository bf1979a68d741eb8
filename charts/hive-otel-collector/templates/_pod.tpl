{{/* The pods of the StatefulSet and of the Deployment. */}}
{{- define "collector.pod" -}}
metadata:
  labels:
    {{- include "collector.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "collector.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # preStop, SHUTDOWN_TIMEOUT_MS, and some seconds to close what is open.
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.shutdownTimeoutSeconds 10 }}
  securityContext:
    {{- include "collector.podSecurityContext" . | nindent 4 }}
  {{- if .Values.diskBuffer.enabled }}
  initContainers:
    # Gives the ring the size of sizeMb. Where that can't be, it says why, and the ring stays as it is.
    - name: resize
      image: {{ include "collector.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [dist/cli/ring.js, resize, /data/disk-buffer, --size-mb, {{ .Values.diskBuffer.sizeMb | int64 | quote }}, --or-keep]
      securityContext:
        {{- include "collector.securityContext" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
  {{- end }}
  containers:
    - name: collector
      image: {{ include "collector.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- include "collector.securityContext" . | nindent 8 }}
      ports:
        - name: otlp-http
          containerPort: 4318
        {{- if .Values.grpc.enabled }}
        - name: otlp-grpc
          containerPort: 4317
        {{- end }}
        - name: admin
          containerPort: 9090
        - name: healthcheck
          containerPort: 13133
      env:
        - name: PORT
          value: "4318"
        {{- if .Values.grpc.enabled }}
        - name: GRPC_PORT
          value: "4317"
        {{- end }}
        - name: HEALTH_PORT
          value: "9090"
        - name: HEALTHCHECK_PORT
          value: "13133"
        {{- with .Values.admin.allowedHosts }}
        - name: ADMIN_ALLOWED_HOSTS
          value: {{ join "," . | quote }}
        {{- end }}
        {{- if .Values.auth.disabled }}
        - name: DISABLE_AUTH
          value: "true"
        {{- else }}
        - name: HIVE_OTEL_AUTH_ENDPOINT
          value: {{ .Values.auth.endpoint | quote }}
        {{- end }}
        {{- include "collector.clickhouseEnv" . | nindent 8 }}
        - name: ENABLE_DISK_BUFFER
          value: {{ .Values.diskBuffer.enabled | quote }}
        - name: DISK_BUFFER_DIR
          value: /data/disk-buffer
        {{- if .Values.diskBuffer.enabled }}
        - name: DISK_BUFFER_MAX_SIZE_MB
          value: {{ .Values.diskBuffer.sizeMb | int64 | quote }}
        - name: DISK_BUFFER_SYNC
          value: {{ .Values.diskBuffer.sync | quote }}
        {{- end }}
        - name: DEAD_LETTERS_MAX_MB
          value: {{ .Values.diskBuffer.deadLettersMaxMb | int64 | quote }}
        {{- if .Values.memBufferSizeMb }}
        - name: MEM_BUFFER_SIZE_MB
          value: {{ .Values.memBufferSizeMb | int64 | quote }}
        {{- end }}
        {{- /* Its earlier name may be in env; both are not allowed. */}}
        {{- if not (hasKey .Values.env "GRPC_MAX_CONNECTION_AGE_MS") }}
        - name: MAX_CONNECTION_AGE_MS
          value: {{ .Values.maxConnectionAgeMs | int64 | quote }}
        {{- end }}
        - name: SHUTDOWN_TIMEOUT_MS
          value: {{ mul .Values.shutdownTimeoutSeconds 1000 | quote }}
        {{- include "collector.furtherEnv" . | nindent 8 }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # A large ring is allocated, and a full one read, before the ports open.
      startupProbe:
        httpGet:
          path: /
          port: healthcheck
        periodSeconds: 1
        failureThreshold: 300
      livenessProbe:
        httpGet:
          path: /
          port: healthcheck
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /ready
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if .Values.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        {{- include "collector.clickhouseVolumeMount" . | nindent 8 }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- if .Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range .Values.topologySpread.topologyKeys }}
    - topologyKey: {{ . }}
      maxSkew: {{ $.Values.topologySpread.maxSkew }}
      whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "collector.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $data := list }}
  {{- if not .Values.diskBuffer.enabled }}
  {{- $data = list (dict "name" "data" "emptyDir" (dict "sizeLimit" (printf "%dMi" (add .Values.diskBuffer.deadLettersMaxMb 16)))) }}
  {{- end }}
  {{- with concat $data (include "collector.clickhouseVolume" . | fromYamlArray) .Values.extraVolumes }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
