// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/volume"
)

// Volumes whose files the kubelet writes itself.
var written = map[string]bool{
	"kubernetes.io/configmap":    true,
	"kubernetes.io/downward-api": true,
	"kubernetes.io/empty-dir":    true,
	"kubernetes.io/projected":    true,
	"kubernetes.io/secret":       true,
}

// mayGiveAway tries whether this process may give a file to another user.
func mayGiveAway(root string) bool {
	file, err := os.Create(filepath.Join(root, "owner"))
	if err != nil {
		return false
	}
	defer os.Remove(file.Name())
	defer file.Close()
	return file.Chown(1, 1) == nil
}

// keepOwner lets files belong to us, whatever user a pod names. Without it, a pod with runAsUser
// would wait for its volumes for ever where we are not root.
func keepOwner(plugins []volume.VolumePlugin) []volume.VolumePlugin {
	kept := make([]volume.VolumePlugin, len(plugins))
	for i, plugin := range plugins {
		kept[i] = plugin
		if written[plugin.GetPluginName()] {
			kept[i] = ownPlugin{plugin}
		}
	}
	return kept
}

type ownPlugin struct{ volume.VolumePlugin }

func (p ownPlugin) NewMounter(spec *volume.Spec, pod *v1.Pod) (volume.Mounter, error) {
	mounter, err := p.VolumePlugin.NewMounter(spec, pod)
	if err != nil {
		return nil, err
	}
	return ownMounter{mounter}, nil
}

type ownMounter struct{ volume.Mounter }

func (m ownMounter) SetUp(args volume.MounterArgs) error {
	args.FsUser, args.FsGroup = nil, nil
	return m.Mounter.SetUp(args)
}

func (m ownMounter) SetUpAt(folder string, args volume.MounterArgs) error {
	args.FsUser, args.FsGroup = nil, nil
	return m.Mounter.SetUpAt(folder, args)
}
