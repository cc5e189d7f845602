// SPDX-License-Identifier: Apache-2.0

//go:build programs

// Package sanity names the tests that every CSI driver is held to, so that go.sum pins them.
package sanity

import (
	_ "github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	_ "github.com/onsi/ginkgo/v2"
	_ "k8s.io/klog/v2"
)
