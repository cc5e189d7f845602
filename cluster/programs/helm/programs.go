// SPDX-License-Identifier: Apache-2.0

//go:build programs

// Package helm names Helm, whose chart is tested, so that go.sum pins it.
package helm

import _ "helm.sh/helm/v4/pkg/cmd"
