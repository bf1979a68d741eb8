{{/* The values `env` and `extraEnv`, by the collector's own rules: files/variables.json. */}}
{{- define "collector.checkEnv" -}}
{{- $rules := .Files.Get "files/variables.json" | fromJson -}}
{{- $own := list "PORT" "GRPC_PORT" "HEALTH_PORT" "HEALTHCHECK_PORT" "ADMIN_ALLOWED_HOSTS" "DISABLE_AUTH" "HIVE_OTEL_AUTH_ENDPOINT"
  "CLICKHOUSE_URL" "CLICKHOUSE_DATABASE" "CLICKHOUSE_TABLE" "ENABLE_DISK_BUFFER" "DISK_BUFFER_DIR" "DISK_BUFFER_MAX_SIZE_MB"
  "DISK_BUFFER_SYNC" "DEAD_LETTERS_MAX_MB" "MEM_BUFFER_SIZE_MB" "MAX_CONNECTION_AGE_MS" "GRPC_MAX_CONNECTION_AGE_MS"
  "SHUTDOWN_TIMEOUT_MS" -}}
{{- if .Values.clickhouse.existingSecret }}
{{- range $key, $isSet := .Values.clickhouse.secretKeys }}
{{- $name := printf "CLICKHOUSE_%s" (upper $key) -}}
{{- if $isSet }}{{ $own = concat $own (list $name (printf "%s_FILE" $name)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $problems := list -}}
{{- range $name, $value := .Values.env }}
{{- $text := include "collector.text" $value -}}
{{- $isFile := and (hasSuffix "_FILE" $name) (dig (trimSuffix "_FILE" $name) "secret" false $rules) -}}
{{- if has $name $own -}}
{{- $problems = append $problems (printf "env.%s: this chart sets it; see values.yaml for the value it comes from." $name) -}}
{{- else if not (regexMatch `^[A-Za-z_][A-Za-z0-9_]*$` $name) -}}
{{- $problems = append $problems (printf "env has %q, which is no name of a variable. Allowed: a name like BATCH_MAX_SPANS." $name) -}}
{{- else if hasKey $rules $name -}}
{{- $rule := get $rules $name -}}
{{- $shown := ternary "not valid (the value is not shown)" ($text | quote) (hasKey $rule "secret") -}}
{{- if and $text (not (include "collector.follows" (dict "rule" $rule "text" $text))) -}}
{{- $problems = append $problems (printf "env.%s is %s. Allowed: %s." $name $shown $rule.allowed) -}}
{{- end -}}
{{- else if not (or $isFile (hasPrefix "OTEL_" $name)) -}}
{{- with include "collector.nearest" (dict "name" $name "rules" $rules) -}}
{{- $problem := printf "env.%s: the collector has no such variable. Did you mean %s? If not, set it in extraEnv." $name . -}}
{{- $problems = append $problems $problem -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv }}
{{- if or (has .name $own) (hasKey $.Values.env .name) -}}
{{- $problems = append $problems (printf "extraEnv has %s: this chart sets it already; see values.yaml." .name) -}}
{{- end -}}
{{- end -}}
{{- if $problems }}{{ fail (join "\n" $problems) }}{{ end -}}
{{- end }}

{{/* A value as the container's environment has it. */}}
{{- define "collector.text" -}}
{{- if kindIs "float64" . }}{{ . | toJson }}{{ else }}{{ . | toString }}{{ end -}}
{{- end }}

{{/* "yes" if a text follows a rule. */}}
{{- define "collector.follows" -}}
{{- $rule := .rule -}}
{{- $parts := list .text -}}
{{- if $rule.isList -}}
{{- $parts = list -}}
{{- range splitList "," .text }}{{ with trim . }}{{ $parts = append $parts . }}{{ end }}{{ end -}}
{{- end -}}
{{- $isWrong := false -}}
{{- range $parts }}
{{- if and (hasKey $rule "pattern") (not (regexMatch (printf "(?i)%s" $rule.pattern) .)) }}{{ $isWrong = true }}
{{- else if and (hasKey $rule "maximum") (gt (float64 .) (float64 $rule.maximum)) }}{{ $isWrong = true }}
{{- else if and (hasKey $rule "minimum") (lt (float64 .) (float64 $rule.minimum)) }}{{ $isWrong = true }}
{{- else if and (hasKey $rule "values") (not (has (lower .) $rule.values)) }}{{ $isWrong = true }}
{{- end -}}
{{- end -}}
{{- if not $isWrong }}yes{{ end -}}
{{- end }}

{{/*
The variable that shares the most groups of three letters with a name: as a part of the name's groups, and of those of both. None, if
that is about half.
*/}}
{{- define "collector.nearest" -}}
{{- $name := .name | upper | replace "_" "" -}}
{{- $groups := max 1 (sub (len $name) 2) -}}
{{- $best := dict "score" 110 "name" "" -}}
{{- range $known, $rule := .rules }}
{{- $letters := replace "_" "" $known -}}
{{- $common := 0 -}}
{{- range $at := until ($groups | int) }}
{{- if contains (substr $at (add $at 3 | int) $name) $letters }}{{ $common = add1 $common }}{{ end -}}
{{- end -}}
{{- $score := add (div (mul 100 $common) $groups) (div (mul 200 $common) (add $groups (sub (len $letters) 2))) -}}
{{- if gt $score ($best.score | int64) }}{{ $best = dict "score" $score "name" $known }}{{ end -}}
{{- end -}}
{{ $best.name }}
{{- end }}
