{{- define "weighbridge.operator.args" -}}
- operator
- --kubernetes
- --envoys-service={{ include "weighbridge.fullname" . }}-envoys
- --lease={{ include "weighbridge.fullname" . }}
- --host=0.0.0.0
- --port=8080
- --xds=0.0.0.0:18000
- --admin=0.0.0.0:8081
- --output=json
- --log-level={{ .Values.operator.logLevel }}
{{- if .Values.certManager.enabled }}
- --xds-tls-directory=/tls
{{- else }}
- --xds-tls-secret={{ include "weighbridge.fullname" . }}-xds
- --xds-service={{ include "weighbridge.fullname" . }}-operator
{{- if include "weighbridge.peers" . }}
- --xds-tls-peers
{{- end }}
{{- end }}
{{- with .Values.entrance.tlsSecret }}
- --entrance-tls-secret={{ . }}
{{- end }}
{{- with .Values.entrance.keysSecret }}
- --keys-secret={{ . }}
{{- end }}
{{- if .Values.requestLog.enabled }}
- --request-log=-
{{- if .Values.requestLog.tokens }}
- --request-log-tokens
{{- end }}
{{- end }}
{{- with .Values.prometheus }}
{{- if and .tokenSecret (or .user .passwordSecret) }}{{ fail "prometheus.tokenSecret and prometheus.user are two ways to be let in: give one" }}{{ end }}
{{- if ne (empty .user) (empty .passwordSecret) }}{{ fail "prometheus.user and prometheus.passwordSecret belong together: give both or none" }}{{ end }}
{{- range compact (kindIs "slice" .url | ternary .url (list .url)) }}
- --prometheus={{ . }}
{{- end }}
{{- if .url }}
- --prometheus-interval={{ .interval }}
{{- if .tokenSecret }}
- --prometheus-token-file=/prometheus/token
{{- end }}
{{- if .user }}
- {{ printf "--prometheus-user=%s" .user | quote }}
- --prometheus-password-file=/prometheus/password
{{- end }}
{{- if .caSecret }}
- --prometheus-ca-file=/prometheus/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if not .Values.operator.debugHeaders }}
- --no-debug-headers
{{- end }}
{{- range .Values.watch.namespaces }}
- {{ printf "--watch-namespace=%s" . | quote }}
{{- end }}
{{- end -}}
