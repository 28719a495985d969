{{- define "wastestream.name" -}}
{{- /* Kubernetes appends 11 characters to the names of CronJobs and, in a label, StatefulSets: 52 are left of 63. */ -}}
{{- $room := sub (ternary 51 62 (has .component (list "backup" "redis" "s3"))) (len .component) | int -}}
{{- printf "%s-%s" (.Release.Name | trunc $room | trimSuffix "-") .component -}}
{{- end -}}

{{- define "wastestream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "wastestream.labels" -}}
{{ include "wastestream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "wastestream.metadata" -}}
name: {{ include "wastestream.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "wastestream.labels" . | nindent 2 }}
{{- end -}}

{{/* Without these nothing can start: better a sentence now than pods that wait. */}}
{{- define "wastestream.check" -}}
{{- if not .Values.image.registry }}{{ fail "Set image.registry: the registry and path of the images wastestream-api and wastestream-worker." }}{{ end }}
{{- if not .Values.secret }}{{ fail "Set secret: the name of the Secret with redis-url, s3-access-key and s3-secret-key (README.md of the chart)." }}{{ end }}
{{- if not .Values.adminKeySha256 }}{{ fail "Set adminKeySha256: the SHA-256 of the first API key (README.md of the chart)." }}{{ end }}
{{- if and (not .Values.s3.endpoint) (not .Values.trial.enabled) }}{{ fail "Set s3.endpoint: the URL of the S3 server; or trial.enabled=true for one in the cluster." }}{{ end }}
{{- if and .Values.trial.enabled .Values.redis.sentinels }}{{ fail "trial.enabled brings its own Redis: leave redis.sentinels empty." }}{{ end }}
{{- end -}}

{{- define "wastestream.image" -}}
{{ .Values.image.registry }}/wastestream-{{ .program }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "wastestream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "wastestream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "wastestream.secretVariable" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end -}}

{{/* Port of a parsed URL. */}}
{{- define "wastestream.portOf" -}}
{{ splitList ":" .host | rest | first | default (ternary "443" "80" (eq .scheme "https")) }}
{{- end -}}

{{/* Ports of rules: those of a value, or without them that of the URL. */}}
{{- define "wastestream.portRules" -}}
{{- range .ports | default (list (include "wastestream.portOf" (urlParse .url))) }}
- {port: {{ . }}}
{{- end }}
{{- end -}}

{{/* Addresses and credentials, for every program. */}}
{{- define "wastestream.connections" -}}
{{- $trial := .Values.trial.enabled -}}
{{- if $trial }}
{{ include "wastestream.secretVariable" (dict "name" "REDIS_PASSWORD" "secret" .Values.secret "key" "redis-password") }}
- name: WASTESTREAM_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "wastestream.name" (merge (dict "component" "redis") .) }}:6379/0
{{- else }}
{{ include "wastestream.secretVariable" (dict "name" "WASTESTREAM_REDIS_URL" "secret" .Values.secret "key" "redis-url") }}
{{- end }}
{{- if .Values.redis.sentinels }}
- name: WASTESTREAM_REDIS_SENTINEL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: redis-sentinel-password, optional: true}}
{{- end }}
{{- if or $trial (eq .Values.s3.credentials "keys") }}
{{ include "wastestream.secretVariable" (dict "name" "WASTESTREAM_S3_ACCESS_KEY" "secret" .Values.secret "key" "s3-access-key") }}
{{ include "wastestream.secretVariable" (dict "name" "WASTESTREAM_S3_SECRET_KEY" "secret" .Values.secret "key" "s3-secret-key") }}
{{- end }}
{{- end -}}

{{- define "wastestream.settings" -}}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}-settings}
env:
  {{- include "wastestream.connections" . | trim | nindent 2 }}
{{- end -}}

{{- define "wastestream.mounts" -}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .claim }}
  - {name: backup, mountPath: /backup}
  {{- end }}
  {{- if .Values.authorities.configMap }}
  - {name: authorities, mountPath: /etc/wastestream, readOnly: true}
  {{- end }}
  {{- if .Values.clientCertificate.secret }}
  - {name: client-certificate, mountPath: /etc/wastestream-client, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "wastestream.volumes" -}}
volumes:
  - name: tmp
    emptyDir: { {{- if not .disk }}medium: Memory, {{ end }}sizeLimit: {{ .tmp }}}
  {{- if .claim }}
  - name: backup
    persistentVolumeClaim: {claimName: {{ .claim }}}
  {{- end }}
  {{- if .Values.authorities.configMap }}
  - name: authorities
    configMap: {name: {{ .Values.authorities.configMap }}}
  {{- end }}
  {{- if .Values.clientCertificate.secret }}
  - name: client-certificate
    secret: {secretName: {{ .Values.clientCertificate.secret }}, defaultMode: 0440}
  {{- end }}
{{- end -}}

{{/* What pods have in common. Spread over machines and zones, as far as there are several. */}}
{{- define "wastestream.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false # their variables begin with the release's name, which may be wastestream
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "wastestream.podSecurity" . | nindent 2 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "wastestream.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end -}}

{{/* A pod's settings changed: a new one must start. */}}
{{- define "wastestream.checksum" -}}
checksum/settings: {{ include (print .Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end -}}
