{{- define "ramq.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "ramq.labels" -}}
app.kubernetes.io/name: ramq
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "ramq.selector" -}}
app.kubernetes.io/name: ramq
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ramq.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "ramq.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- /* image: (dict "root" $ "image" .Values.images.web) */ -}}
{{- define "ramq.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "ramq.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "ramq.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
privileged: false
capabilities: { drop: [ALL] }
{{- end }}

{{- /* What every pod is given: (dict "root" $ "env" .Values.web.env) */ -}}
{{- define "ramq.env" -}}
{{- $all := dict }}
{{- range $name, $value := .root.Values.settings }}{{ if ne (toString $value) "" }}{{ $_ := set $all $name (toString $value) }}{{ end }}{{ end }}
{{- if and (not (get $all "RAMQ_INDEX_URL")) .root.Values.index.existingClaim }}{{ $_ := set $all "RAMQ_INDEX_URL" "file:///var/lib/ramq-index" }}{{ end }}
{{- if not (get $all "RAMQ_INDEX_URL") }}{{ fail "set settings.RAMQ_INDEX_URL to s3://bucket/prefix, or index.existingClaim to a ReadWriteMany claim: all pods share the index" }}{{ end }}
{{- if .root.Values.models.existingClaim }}{{ $_ := set $all "RAMQ_MODELS_DIR" "/models" }}{{ end }}
{{- range $name, $value := .env }}{{ $_ := set $all $name (toString $value) }}{{ end }}
{{- range $name, $value := $all }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "ramq.envFrom" -}}
- secretRef: { name: {{ required "set existingSecret: the name of the Secret with RAMQ_DATABASE_URL and RAMQ_BROKER_URL" .Values.existingSecret }} }
{{- end }}

{{- define "ramq.mounts" -}}
- { name: data, mountPath: /var/lib/ramq }
- { name: tmp, mountPath: /tmp }
{{- if .Values.index.existingClaim }}
- { name: index, mountPath: /var/lib/ramq-index }
{{- end }}
{{- if .Values.models.existingClaim }}
- { name: models, mountPath: /models, readOnly: true }
{{- end }}
{{- end }}

{{- /* (dict "root" $ "dataSize" "20Gi") */ -}}
{{- define "ramq.volumes" -}}
- { name: data, emptyDir: { sizeLimit: {{ .dataSize }} } }
- { name: tmp, emptyDir: { sizeLimit: 2Gi } }
{{- if .root.Values.index.existingClaim }}
- { name: index, persistentVolumeClaim: { claimName: {{ .root.Values.index.existingClaim }} } }
{{- end }}
{{- if .root.Values.models.existingClaim }}
- { name: models, persistentVolumeClaim: { claimName: {{ .root.Values.models.existingClaim }}, readOnly: true } }
{{- end }}
{{- end }}

{{- /* The kinds of work that a worker does, which is what it is scaled on: those of its model and stages. */ -}}
{{- define "ramq.kinds" -}}
{{- $kinds := list }}
{{- range .stages }}
{{- if ne . "recognition" }}{{ $kinds = append $kinds . }}
{{- else if $.model }}{{ $kinds = append $kinds (first (splitList "@" $.model)) }}
{{- else }}{{ $kinds = concat $kinds (list "lite" "ram" "ram_plus") }}{{ end }}
{{- end }}
{{- join "|" $kinds }}
{{- end }}

{{- define "ramq.deviceKind" -}}
{{- first (splitList ":" .device) -}}
{{- end }}
