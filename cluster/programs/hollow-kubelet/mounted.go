// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"

	"k8s.io/mount-utils"
)

// honestMounter pretends the kubelet's own mounts, and sees those that a CSI driver really makes:
// else the kubelet would take a pod's volume for a plain folder and try to remove it.
type honestMounter struct {
	*mount.FakeMounter
	real mount.Interface
}

func newMounter() mount.Interface {
	pretended := mount.NewFakeMounter(nil)
	if runtime.GOOS != "linux" { // Drivers mount nothing there, and nobody could look.
		return pretended
	}
	return honestMounter{pretended, mount.New("")}
}

func (m honestMounter) IsLikelyNotMountPoint(path string) (bool, error) {
	isNone, err := m.FakeMounter.IsLikelyNotMountPoint(path)
	if err != nil || !isNone {
		return isNone, err
	}
	return m.real.IsLikelyNotMountPoint(path)
}

func (m honestMounter) IsMountPoint(path string) (bool, error) {
	isNone, err := m.IsLikelyNotMountPoint(path)
	if err != nil {
		return false, err
	}
	return !isNone, nil
}
