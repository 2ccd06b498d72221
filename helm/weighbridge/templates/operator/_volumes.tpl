{{/* Secrets that somebody else keeps fresh; kubelet brings their changes. */}}
{{- define "weighbridge.operator.mounts" -}}
{{- if .Values.certManager.enabled }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- if include "weighbridge.operator.prometheus" . }}
- {name: prometheus, mountPath: /prometheus, readOnly: true}
{{- end }}
{{- end -}}

{{- define "weighbridge.operator.volumes" -}}
{{- if .Values.certManager.enabled }}
- {name: tls, secret: {secretName: {{ include "weighbridge.fullname" . }}-xds}}
{{- end }}
{{- with include "weighbridge.operator.prometheus" . }}
- name: prometheus
  projected:
    sources: {{- . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "weighbridge.operator.prometheus" -}}
{{- range $name, $entry := dict "tokenSecret" "token" "passwordSecret" "password" "caSecret" "ca.crt" }}
{{- with and $.Values.prometheus.url (get $.Values.prometheus $name) }}
- secret: {name: {{ . }}, items: [{key: {{ $entry }}, path: {{ $entry }}}]}
{{- end }}
{{- end }}
{{- end -}}
