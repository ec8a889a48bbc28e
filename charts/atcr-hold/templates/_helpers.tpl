{{/* Name of every object: 52 characters leave room for what Kubernetes adds to names of pods. */}}
{{- define "atcr-hold.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: a Deployment's selector is immutable. */}}
{{- define "atcr-hold.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atcr-hold.labels" -}}
{{ include "atcr-hold.selectorLabels" . }}
app.kubernetes.io/part-of: atcr
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "atcr-hold.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atcr-hold.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atcr-hold.claim" -}}
{{- default (include "atcr-hold.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "atcr-hold.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* URL of the Service, as the cluster's DNS knows it. */}}
{{- define "atcr-hold.serviceURL" -}}
{{- printf "http://%s.%s.svc.%s%s" (include "atcr-hold.fullname" .) .Release.Namespace .Values.clusterDomain (ternary "" (printf ":%d" (int .Values.service.port)) (eq (int .Values.service.port) 80)) -}}
{{- end -}}

{{- define "atcr-hold.publicURL" -}}
{{- default (include "atcr-hold.serviceURL" .) .Values.publicURL -}}
{{- end -}}

{{/* did:web of the public URL: its host, and its port as %3A, unless it is the scheme's own. */}}
{{- define "atcr-hold.did" -}}
{{- $url := urlParse (include "atcr-hold.publicURL" .) -}}
{{- $default := ternary ":443" ":80" (eq $url.scheme "https") -}}
{{- printf "did:web:%s" ($url.host | lower | trimSuffix $default | replace ":" "%3A") -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "atcr-hold.validate" -}}
{{- if not .Values.owner -}}
{{- fail "owner is needed: the DID of the hold's captain, as did:plc:..., which https://bsky.social/xrpc/com.atproto.identity.resolveHandle?handle=YOU tells" -}}
{{- end -}}
{{- if eq .Values.storage.driver "s3" -}}
{{- if not .Values.storage.s3.bucket -}}
{{- fail "storage.s3.bucket is needed with storage.driver=s3" -}}
{{- end -}}
{{- if not .Values.storage.s3.existingSecret -}}
{{- fail "storage.s3.existingSecret is needed with storage.driver=s3: a Secret with the bucket's credentials" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.publicURL) -}}
{{- fail "ingress.enabled needs publicURL: its host is the Ingress's" -}}
{{- end -}}
{{- if and (not .Values.publicURL) (ne (int .Values.service.port) 80) -}}
{{- fail "service.port other than 80 needs publicURL: without it the port becomes part of the hold's DID, and users' servers sign no token for such a DID" -}}
{{- end -}}
{{- if and .Values.holdLink.enabled (not .Values.holdLink.appView.name) -}}
{{- fail "holdLink.appView.name is needed with holdLink.enabled: the AppView to attach to" -}}
{{- end -}}
{{- end -}}
