{{/* The data plane: one process for each core that it may use, over sockets of their own in one directory. They are sidecars
(init containers that stay): they run before Envoy starts, and end after it, so that what an Envoy still carries when it
drains is chosen for as well. */}}
{{- define "weighbridge.envoy.sidecars" -}}
{{- if .Values.dataplane.enabled }}
{{- range $number := until (int .Values.dataplane.processes) }}
{{ include "weighbridge.envoy.dataplane" (list $ $number) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Called with (list $ number): its name, and its two ports, of which others than its own pod may reach the second. */}}
{{- define "weighbridge.dataplane.name" -}}
{{ $number := index . 1 }}dataplane{{ if $number }}-{{ add1 $number }}{{ end }}
{{- end -}}
{{- define "weighbridge.dataplane.port" -}}
{{ add 9903 (mul 2 (index . 1)) }}
{{- end -}}
{{- define "weighbridge.dataplane.metrics" -}}
{{ add 9904 (mul 2 (index . 1)) }}
{{- end -}}

{{/* Where the others tell it what they send. */}}
{{- define "weighbridge.dataplane.peer" -}}
{{ add 9940 (index . 1) }}
{{- end -}}

{{/* Whether data planes tell each other what they send. */}}
{{- define "weighbridge.peers" -}}
{{- if and .Values.dataplane.enabled .Values.dataplane.peers.enabled }}true{{ end -}}
{{- end -}}

{{/* Names a node for each request of policies with balance.precise. It has no probe on purpose: kubelet takes a pod out of
service whose sidecar is not ready or ends, and Envoy serves without it. Envoy's own check takes out one that hangs, and
the keeper, the container's first process, starts it anew. */}}
{{- define "weighbridge.envoy.dataplane" -}}
{{- $root := index . 0 -}}
{{- $name := include "weighbridge.dataplane.name" . -}}
- name: {{ $name }}
  image: {{ include "weighbridge.image" (list $root $root.Values.images.operator) }}
  imagePullPolicy: {{ $root.Values.images.pullPolicy }}
  restartPolicy: Always
  command: [/opt/weighbridge/bin/python, -m, weighbridge_dataplane.keeper]
  args:
  - --socket=/run/weighbridge/{{ $name }}
  - --admin-url=http://127.0.0.1:9901
  - --listen=127.0.0.1:{{ include "weighbridge.dataplane.port" . }}
  - --metrics=$(POD_IP):{{ include "weighbridge.dataplane.metrics" . }}
  - --keep-choices={{ int $root.Values.dataplane.keepChoices }}
  {{- if include "weighbridge.peers" $root }}
  - --peer-listen=$(POD_IP):{{ include "weighbridge.dataplane.peer" . }}
  {{- range $other := until (int $root.Values.dataplane.processes) }}
  - --peer={{ include "weighbridge.fullname" $root }}-peers.{{ $root.Release.Namespace }}.svc:{{ include "weighbridge.dataplane.peer" (list $root $other) }}
  {{- end }}
  - --peer-processes={{ int $root.Values.dataplane.processes }}
  - --peer-tls=/peers
  {{- end }}
  env:
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  ports:
  - {name: {{ $name }}, containerPort: {{ include "weighbridge.dataplane.metrics" . }}}
  securityContext: {{- include "weighbridge.containerSecurity" $root | nindent 4 }}
  resources: {{- toYaml $root.Values.dataplane.resources | nindent 4 }}
  volumeMounts:
  - {name: sockets, mountPath: /run/weighbridge}
  {{- if include "weighbridge.peers" $root }}
  - {name: peers, mountPath: /peers, readOnly: true}
  {{- end }}
{{- end -}}

{{/* Writes what Envoy starts with: only the pod knows its name and address. */}}
{{- define "weighbridge.envoy.bootstrap" -}}
- name: bootstrap
  image: {{ include "weighbridge.image" (list $ .Values.images.operator) }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  args:
  - bootstrap
  - --operator={{ include "weighbridge.xdsHost" . }}:18000
  - --id=$(POD_NAME)
  - --stats=$(POD_IP):9902
  - --connections={{ int .Values.envoy.connections }}
  {{- with dig "limits" "memory" "" (.Values.envoy.resources | default dict) }}
  - --memory={{ . }}
  {{- end }}
  {{- if .Values.dataplane.enabled }}
  {{- range $number := until (int .Values.dataplane.processes) }}
  - --dataplane-socket=/run/weighbridge/{{ include "weighbridge.dataplane.name" (list $ $number) }}
  {{- end }}
  {{- end }}
  - --tls-directory=/tls
  - --write=/etc/envoy/envoy.json
  env:
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  securityContext: {{- include "weighbridge.containerSecurity" . | nindent 4 }}
  resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 256Mi}}
  volumeMounts: [{name: bootstrap, mountPath: /etc/envoy}]
{{- end -}}

{{- define "weighbridge.envoy.container" -}}
- name: envoy
  image: {{ include "weighbridge.image" (list $ .Values.images.envoy) }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  # A change of the listener must cut no stream: the drain time is above the longest answer.
  args:
  - --config-path
  - /etc/envoy/envoy.json
  - --concurrency
  - {{ int .Values.envoy.concurrency | quote }}
  - --drain-time-s
  - "90000"
  - --drain-strategy
  - immediate
  - --disable-hot-restart
  - --file-flush-interval-msec
  - "1000"
  ports:
  - {name: entrance, containerPort: 8080}
  - {name: stats, containerPort: 9902}
  securityContext: {{- include "weighbridge.containerSecurity" . | nindent 4 }}
  resources: {{- toYaml .Values.envoy.resources | nindent 4 }}
  # Answered only when the operator's configuration is in. There is no liveness probe: an Envoy that waits for an operator
  # is well, and one whose threads hang ends itself.
  readinessProbe: {httpGet: {path: /ready, port: stats}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 3}
  lifecycle: {preStop: {exec: {command: [python3, /opt/weighbridge/drain.py]}}}
  volumeMounts:
  - {name: bootstrap, mountPath: /etc/envoy, readOnly: true}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- if .Values.dataplane.enabled }}
  - {name: sockets, mountPath: /run/weighbridge, readOnly: true}
  {{- end }}
{{- end -}}
