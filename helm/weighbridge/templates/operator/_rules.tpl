{{/* What the operator may do; the table beside its code (weighbridge_operator/permissions.py) says why. */}}
{{- define "weighbridge.rules.objects" -}}
- {apiGroups: [weighbridge.dev], resources: [modelnodes, routepolicies], verbs: [get, list, watch]}
- {apiGroups: [weighbridge.dev], resources: [modelnodes/status, routepolicies/status], verbs: [patch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
- {apiGroups: [""], resources: [services], verbs: [list, watch]}
- {apiGroups: [""], resources: [secrets], verbs: [get]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
{{- end -}}

{{- define "weighbridge.rules.own" -}}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, get, update]}
{{- if not .Values.certManager.enabled }}
{{- $xds := printf "%s-xds" (include "weighbridge.fullname" .) }}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
- {apiGroups: [""], resources: [secrets], resourceNames: [{{ $xds }}, {{ $xds }}-client{{ if include "weighbridge.peers" . }}, {{ $xds }}-peers{{ end }}], verbs: [get, update]}
{{- end }}
{{- end -}}
