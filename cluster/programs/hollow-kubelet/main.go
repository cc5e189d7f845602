// SPDX-License-Identifier: Apache-2.0

// Command hollow-kubelet is a node without containers, made of kubemark's parts.
//
// It differs from kubemark in three ways that a machine of a developer needs: all files, sockets
// too, are in one folder; it listens on no port (kubemark's shows the machine's logs to the
// network, unasked); CSI drivers find it, and what they mount is seen.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	clientset "k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"
	internalapi "k8s.io/cri-api/pkg/apis"
	remote "k8s.io/cri-client/pkg"
	fakeremote "k8s.io/cri-client/pkg/fake"
	"k8s.io/klog/v2"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
)

type options struct {
	name, root, kubeconfig string
	qps, maxPods           int
	labels                 map[string]string
}

func parse() (options, error) {
	chosen := options{labels: map[string]string{}}
	labels := cliflag.ConfigurationMap(chosen.labels)
	flag.StringVar(&chosen.name, "name", "", "the node's name")
	flag.StringVar(&chosen.root, "root-dir", "", "an existing folder for all files")
	flag.StringVar(&chosen.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flag.IntVar(&chosen.qps, "kube-api-qps", 100, "requests a second, twice as many in a burst")
	flag.IntVar(&chosen.maxPods, "max-pods", 110, "how many pods it takes")
	flag.Var(&labels, "node-labels", "labels of the node, a=b,c=d")
	gates := cliflag.ConfigurationMap(map[string]string{})
	flag.Var(&gates, "feature-gates", "gates of the kubelet, A=true,B=false")
	klog.InitFlags(nil)
	flag.Parse()
	return chosen, utilfeature.DefaultMutableFeatureGate.Set(gates.String())
}

func main() {
	chosen, err := parse()
	if err == nil {
		err = run(context.Background(), chosen)
	}
	if err != nil {
		klog.Fatalf("hollow-kubelet: %v", err)
	}
}

func run(ctx context.Context, chosen options) error {
	client, heartbeats, err := connect(chosen)
	if err != nil {
		return err
	}
	images, containers, err := pretendRuntime(ctx, chosen.root)
	if err != nil {
		return err
	}
	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{
		NodeName:   chosen.name,
		MaxPods:    chosen.maxPods,
		NodeLabels: chosen.labels,
	})
	if err := os.RemoveAll(flags.RootDirectory); err != nil { // Made in /tmp, whatever TMPDIR says.
		return err
	}
	flags.RootDirectory = chosen.root
	config.StaticPodPath = ""
	config.PodLogsDir = filepath.Join(chosen.root, "pod-logs")
	config.EnableServer = false
	config.ReadOnlyPort = 0
	kubelet := kubemark.NewHollowKubelet(flags, config, client, heartbeats,
		&cadvisortest.Fake{NodeName: chosen.name}, images, containers, cm.NewStubContainerManager())
	kubelet.KubeletDeps.Mounter = newMounter()
	if !mayGiveAway(chosen.root) {
		kubelet.KubeletDeps.VolumePlugins = keepOwner(kubelet.KubeletDeps.VolumePlugins)
	}
	kubelet.Run(ctx)
	return nil
}

// connect makes two clients: heartbeats are not held up by what the pods need.
func connect(chosen options) (*clientset.Clientset, *clientset.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", chosen.kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.QPS, config.Burst = float32(chosen.qps), 2*chosen.qps
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	beat := restclient.CopyConfig(config)
	beat.QPS, beat.Timeout = -1, 10*time.Second
	heartbeats, err := clientset.NewForConfig(beat)
	return client, heartbeats, err
}

// pretendRuntime starts kubemark's container runtime on a socket in the folder.
func pretendRuntime(ctx context.Context, root string) (internalapi.ImageManagerService, internalapi.RuntimeService, error) {
	endpoint := "unix://" + filepath.Join(root, "runtime.sock")
	fake := fakeremote.NewFakeRemoteRuntime()
	if err := fake.Start(endpoint); err != nil {
		return nil, nil, fmt.Errorf("pretended runtime: %w", err)
	}
	containers, err := remote.NewRemoteRuntimeServiceBuilder().
		WithEndpoint(endpoint).WithConnectionTimeout(15 * time.Second).Build(ctx)
	return fake.ImageService, containers, err
}
