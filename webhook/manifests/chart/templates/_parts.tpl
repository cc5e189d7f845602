{{- define "kubetls.zones" -}}
{{- if .Values.platform.zones -}}
{{- if .Values.trustDomain }}{{ fail "set trustDomain or platform.zones, not both" }}{{ end -}}
{{- toYaml .Values.platform.zones -}}
{{- else -}}
{{- $domain := required "set trustDomain: it has no default, since two clusters of one name would mint the same identities" .Values.trustDomain -}}
- name: default
  trustDomain: {{ $domain }}
{{- end -}}
{{- end -}}

{{- /* The signer name of one zone. */ -}}
{{- define "kubetls.signerOf" -}}
{{ .signerName | default (eq .name "default" | ternary "kubetls.gauntletwizard.net/workload" (printf "kubetls.gauntletwizard.net/%s" .name)) }}
{{- end -}}

{{- define "kubetls.signers" -}}
{{- range include "kubetls.zones" . | fromYamlArray }}
- {{ include "kubetls.signerOf" . }}
{{- end }}
{{- end -}}

{{- define "kubetls.externalSigners" -}}
{{- range include "kubetls.zones" . | fromYamlArray }}{{ with .externalSigner }}
- {{ . }}
{{- end }}{{ end }}
{{- end -}}

{{- define "kubetls.pools" -}}
{{- range include "kubetls.zones" . | fromYamlArray }}
- kubetls-ca-{{ .name }}
{{- end }}
{{- end -}}

{{- define "kubetls.trustMaps" -}}
{{- range include "kubetls.zones" . | fromYamlArray }}
- kubetls-trust-{{ .name }}
{{- end }}
{{- range .Values.platform.partners }}{{ if .endpoint }}
- kubetls-partner-{{ .name }}
{{- end }}{{ end }}
{{- end -}}

{{- define "kubetls.labels" -}}
app.kubernetes.io/name: kubetls
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "kubetls.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{- /* Rule of a NetworkPolicy: whoever may scrape metrics. */ -}}
{{- define "kubetls.scrape" -}}
{{- $rule := dict "ports" (list (dict "port" "status")) -}}
{{- with .Values.networkPolicy.metricsNamespaces -}}
{{- $_ := set $rule "from" (list (dict "namespaceSelector" (dict "matchExpressions" (list (dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" .))))) -}}
{{- end -}}
{{- toYaml (list $rule) -}}
{{- end -}}

{{- /* Rules of a NetworkPolicy: the API server, and names. */ -}}
{{- define "kubetls.apiEgress" -}}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {port: {{ . }}}
    {{- end }}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- /* One Deployment; takes {root, part, command, settings, ports, volumes, mounts, token}. */ -}}
{{- define "kubetls.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: kubetls-{{ .part }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "kubetls.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
spec:
  replicas: {{ .settings.replicas }}
  selector:
    matchLabels: {app.kubernetes.io/name: kubetls, app.kubernetes.io/component: {{ .part }}}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  template:
    metadata:
      labels: {{- include "kubetls.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
        kubetls.gauntletwizard.net/inject: "false"
      {{- with $root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: kubetls-{{ .part }}
      automountServiceAccountToken: {{ .token }}
      enableServiceLinks: false
      {{- with $root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {app.kubernetes.io/name: kubetls, app.kubernetes.io/component: {{ .part }}}
      containers:
        - name: {{ .part }}
          image: {{ include "kubetls.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{- concat (list .command "--log-level" $root.Values.logLevel) .arguments | toJson | nindent 12 }}
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
          ports:
            - {name: status, containerPort: 8080}
            {{- range .ports }}
            - {{ toJson . }}
            {{- end }}
          # A busy node takes its time to start Python: killed before that, a pod would never start.
          startupProbe:
            httpGet: {path: /healthz, port: status}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 90
          livenessProbe:
            httpGet: {path: /healthz, port: status}
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: {path: /readyz, port: status}
            periodSeconds: 5
          resources: {{- toYaml .settings.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: configuration, mountPath: /etc/kubetls, readOnly: true}
            {{- range .mounts }}
            - {{ toJson . }}
            {{- end }}
      volumes:
        - {name: configuration, configMap: {name: kubetls-config}}
        {{- range .volumes }}
        - {{ toJson . }}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: kubetls-{{ .part }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "kubetls.labels" $root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {app.kubernetes.io/name: kubetls, app.kubernetes.io/component: {{ .part }}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: kubetls-{{ .part }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "kubetls.labels" $root | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}
