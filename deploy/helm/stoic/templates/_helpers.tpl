{{- define "stoic.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "stoic.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "stoic.labels" -}}
{{ include "stoic.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "stoic.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "stoic.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "stoic.tokenSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-admin" (include "stoic.name" .)) }}
{{- end }}

{{- define "stoic.image" -}}
{{- with .Values.image }}{{ if .registry }}{{ .registry }}/{{ end }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "stoic.scheme" -}}
{{- if .Values.tls.secretName }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* Not empty where the gateway answers for apiextensions.k8s.io/v1beta1. */}}
{{- define "stoic.v1beta1" -}}
{{- if and .Values.controller.enabled .Values.kubeless.enabled .Values.kubeless.command }}yes{{ end }}
{{- end }}

{{/* A value as TOML writes it. */}}
{{- define "stoic.toml" -}}
{{- if kindIs "string" . }}{{ . | quote }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "stoic.config" -}}
listen = "0.0.0.0:8080"
data = "/data"
linger = {{ .Values.linger | quote }}
{{- if .Values.persistence.enabled }}

[storage]
# The gateway before this one may still finish its requests.
wait = "{{ add .Values.terminationGracePeriodSeconds 30 }}s"
{{- end }}
{{- if .Values.tls.secretName }}

[tls]
cert = "/etc/stoic/tls/tls.crt"
key = "/etc/stoic/tls/tls.key"
{{- end }}

[auth]
required = true
metrics_open = true

[controller]
enabled = {{ .Values.controller.enabled }}
kubeless = {{ .Values.kubeless.enabled }}
{{- if include "stoic.v1beta1" . }}

[controller.v1beta1]
listen = "0.0.0.0:8443"
tls = { cert = "/etc/stoic/v1beta1/tls.crt", key = "/etc/stoic/v1beta1/tls.key" }
config_map = "{{ .Release.Namespace }}/{{ include "stoic.name" . }}-kubeless"
{{- end }}

[sites.edge]
backend = "kubernetes"
{{- with .Values.store }}
{{- if .bucket }}
store = { {{ if .endpoint }}endpoint = {{ .endpoint | quote }}, {{ end }}bucket = {{ .bucket | quote }}, region = {{ .region | quote }} }
{{- end }}
{{- end }}
{{- if or .Values.site (not .Values.persistence.enabled) }}

[sites.edge.kubernetes]
{{- if not .Values.persistence.enabled }}
pods_go_with_gateway = true
{{- end }}
{{- with .Values.site }}
{{ . | trim }}
{{- end }}
{{- end }}
{{- range $name, $runtime := .Values.runtimes }}

[runtimes.{{ $name }}]
site = "edge"
{{- range $key, $value := $runtime }}
{{ $key }} = {{ include "stoic.toml" $value }}
{{- end }}
{{- end }}
{{- with .Values.extraConfig }}

{{ . | trim }}
{{- end }}
{{ end }}
