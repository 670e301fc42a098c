{{- define "sipfleet.name" -}}
{{ .Values.fullnameOverride | default (printf "%s-operator" .Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Of what is not in a namespace: releases of the same name may stand in several. */ -}}
{{- define "sipfleet.clusterName" -}}
{{ include "sipfleet.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "sipfleet.selectorLabels" -}}
app.kubernetes.io/name: sipfleet-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sipfleet.labels" -}}
{{ include "sipfleet.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sipfleet
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sipfleet.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sipfleet.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "sipfleet.tag" -}}
{{ .Values.images.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* registry/repository, of one entry of `images`: (list $ "proxy"). */ -}}
{{- define "sipfleet.repository" -}}
{{- $root := index . 0 }}
{{- $image := index $root.Values.images (index . 1) }}
{{- $registry := $image.registry | default $root.Values.images.registry }}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- end }}

{{- define "sipfleet.bindTo" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "sipfleet.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
