{{/* What is in the cluster, as `helm install` and `helm upgrade` see it. Under `helm template` there is no cluster to look at. */}}

{{/* The number of pods. While they are scaled automatically, the number that there is: a manifest without one would mean one pod. */}}
{{- define "collector.replicas" -}}
{{- if not .Values.autoscaling.enabled -}}
replicas: {{ .Values.replicas }}
{{- else -}}
{{- $live := dict -}}
{{- range list "Deployment" "StatefulSet" }}
{{- with lookup "apps/v1" . $.Release.Namespace (include "collector.fullname" $) }}{{ $live = . }}{{ end -}}
{{- end -}}
{{- if $live -}}
replicas: {{ max (dig "spec" "replicas" 1 $live) .Values.autoscaling.minReplicas }}
{{- else if .Release.IsUpgrade -}}
{{- /* Deleted with --cascade=orphan: its pods run, and the autoscaler knows how many. */ -}}
{{- $autoscaler := lookup "autoscaling/v2" "HorizontalPodAutoscaler" .Release.Namespace (include "collector.fullname" .) -}}
replicas: {{ max (dig "status" "currentReplicas" 1 $autoscaler) .Values.autoscaling.minReplicas }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Kubernetes would refuse after Helm has applied half of it, and what would leave spans behind. */}}
{{- define "collector.checkRelease" -}}
{{- if .Release.IsUpgrade -}}
{{- range $kind := list "StatefulSet" "Deployment" }}
{{- range dig "items" list (lookup "apps/v1" $kind $.Release.Namespace "") }}
{{- $labels := .metadata.labels | default dict -}}
{{- $isOurs := hasPrefix (printf "%s-" $.Chart.Name) (dig "helm.sh/chart" "" $labels) -}}
{{- if and $isOurs (eq (dig "app.kubernetes.io/instance" "" $labels) $.Release.Name) -}}
{{- include "collector.checkName" (dict "root" $ "kind" $kind "live" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.diskBuffer.enabled -}}
{{- $live := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "collector.fullname" .) -}}
{{- range dig "spec" "volumeClaimTemplates" list $live }}{{ include "collector.checkClaim" (dict "root" $ "claim" .) }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "collector.checkName" -}}
{{- $name := include "collector.fullname" .root -}}
{{- $label := include "collector.name" .root -}}
{{- $was := dig "spec" "selector" "matchLabels" "app.kubernetes.io/name" $label .live -}}
{{- if ne .live.metadata.name $name -}}
{{- fail (cat
  (printf "nameOverride or fullnameOverride: the %s of this release is called %s and can't be renamed to %s:" .kind .live.metadata.name $name)
  "senders would not find it, and spans in its volumes would stay there. Nothing was changed. Set the earlier name; or install"
  "a second release, and uninstall this one once hive_collector_buffered_spans is 0.") -}}
{{- end -}}
{{- if and (ne $was $label) (eq .kind (ternary "StatefulSet" "Deployment" .root.Values.diskBuffer.enabled)) -}}
{{- fail (printf "nameOverride was %q and can't be changed: Kubernetes does not allow changes to the selector of a %s. Nothing was changed." $was .kind) -}}
{{- end -}}
{{- end }}

{{- define "collector.checkClaim" -}}
{{- $changed := list -}}
{{- with .root.Values.diskBuffer -}}
{{- $size := dig "spec" "resources" "requests" "storage" "" $.claim -}}
{{- if ne (include "collector.bytes" (include "collector.volumeSize" $.root)) (include "collector.bytes" $size) -}}
{{- $changed = append $changed (printf "volumeSize (%s before)" $size) -}}
{{- end -}}
{{- $class := dig "spec" "storageClassName" "" $.claim -}}
{{- if ne .storageClassName $class }}{{ $changed = append $changed (printf "storageClassName (%q before)" $class) }}{{ end -}}
{{- $modes := dig "spec" "accessModes" list $.claim -}}
{{- if ne (.accessModes | toJson) ($modes | toJson) }}{{ $changed = append $changed "accessModes" }}{{ end -}}
{{- $annotations := dig "metadata" "annotations" dict $.claim -}}
{{- if ne (.annotations | toJson) ($annotations | toJson) }}{{ $changed = append $changed "annotations" }}{{ end -}}
{{- end -}}
{{- if $changed -}}
{{- $statefulSet := printf "%s --namespace %s" (include "collector.fullname" .root) .root.Release.Namespace -}}
{{- fail (cat
  (printf "diskBuffer.%s: Kubernetes does not allow changes to the volume claims of a StatefulSet. Nothing was changed. To change them," (join ", " $changed))
  "delete the StatefulSet, which leaves its pods running, and run the same command again:\n\n "
  (printf "kubectl delete statefulset %s --cascade=orphan\n\n" $statefulSet)
  "Volumes that exist stay as they are: docs/disk-buffer.md, Kubernetes.") -}}
{{- end -}}
{{- end }}
