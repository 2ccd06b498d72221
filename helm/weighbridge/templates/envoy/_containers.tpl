{{/* Containers of Envoy's pod. A sidecar of Envoy (the data plane, over a Unix socket) gets its own partial and a line in "weighbridge.envoy.containers". */}}
{{- define "weighbridge.envoy.containers" -}}
{{ include "weighbridge.envoy.container" . }}
{{- if .Values.dataplane.enabled }}
{{ include "weighbridge.envoy.dataplane" . }}
{{- end }}
{{- end -}}

{{/* Names a node for each request of policies with balance.precise. Envoy's own check takes it out when it hangs. */}}
{{- define "weighbridge.envoy.dataplane" -}}
- name: dataplane
  image: {{ include "weighbridge.image" (list $ .Values.images.operator) }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  args:
  - dataplane
  - --socket=/run/weighbridge/dataplane
  - --admin-url=http://127.0.0.1:9901
  - --listen=127.0.0.1:9903
  securityContext: {{- include "weighbridge.containerSecurity" . | nindent 4 }}
  resources: {{- toYaml .Values.dataplane.resources | nindent 4 }}
  volumeMounts: [{name: sockets, mountPath: /run/weighbridge}]
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
  - --dataplane-socket=/run/weighbridge/dataplane
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
  readinessProbe: {httpGet: {path: /ready, port: stats}, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 3}
  lifecycle: {preStop: {exec: {command: [python3, /opt/weighbridge/drain.py]}}}
  volumeMounts:
  - {name: bootstrap, mountPath: /etc/envoy, readOnly: true}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- if .Values.dataplane.enabled }}
  - {name: sockets, mountPath: /run/weighbridge}
  {{- end }}
{{- end -}}
