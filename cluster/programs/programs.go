// SPDX-License-Identifier: Apache-2.0

//go:build programs

// Package programs names the Kubernetes programs of the development cluster, so that go.sum pins them.
package programs

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	_ "k8s.io/kubernetes/cmd/kube-scheduler/app"
	_ "k8s.io/kubernetes/cmd/kubelet/app"
	_ "k8s.io/kubernetes/cmd/kubemark/app"
)
