{{/* Name of every object of the release. */}}
{{- define "atcr-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: a Deployment's selector is immutable. */}}
{{- define "atcr-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atcr-operator.labels" -}}
{{ include "atcr-operator.selectorLabels" . }}
app.kubernetes.io/part-of: atcr
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "atcr-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atcr-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed with serviceAccount.create=false: name the account that the operator runs as" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atcr-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "atcr-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Reference of an image: list of the image's values and the root. */}}
{{- define "atcr-operator.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/*
The operator's rules for a Role: those of the ClusterRole without resources that no namespace holds. The operator does
not read namespaces and CRDs when it is told which namespaces to watch.
*/}}
{{- define "atcr-operator.namespacedRules" -}}
{{- range include "atcr-operator.rules" . | fromYamlArray -}}
{{- $resources := without .resources "namespaces" "customresourcedefinitions" -}}
{{- if $resources }}
{{ list (merge (dict "resources" $resources) .) | toYaml }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "atcr-operator.validate" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) -}}
{{- fail "replicas above 1 need leaderElection.enabled: two operators at work would write against each other" -}}
{{- end -}}
{{- if and (or .Values.metrics.serviceMonitor.enabled .Values.metrics.rules.enabled .Values.metrics.dashboard.enabled) (not .Values.metrics.enabled) -}}
{{- fail "metrics.serviceMonitor, metrics.rules and metrics.dashboard need metrics.enabled" -}}
{{- end -}}
{{- if and .Values.metrics.enabled (eq (int .Values.metrics.port) (int .Values.healthPort)) -}}
{{- fail "metrics.port and healthPort must differ" -}}
{{- end -}}
{{- end -}}
