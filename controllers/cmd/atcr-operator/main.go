// Command atcr-operator runs AppViews and HoldLinks on Kubernetes.
package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/controllers/render"
)

// version is set by -ldflags "-X main.version=...".
var version = "dev"

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type flags struct {
	manager   manager.Options
	allow     []string
	labels    map[string]string
	logLevel  string
	logFormat string
}

func command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "atcr-operator",
		Short: "Runs ATCR registries on Kubernetes: kubectl apply an AppView and a HoldLink",
		Long: `atcr-operator watches AppView and HoldLink objects (operator.atcr.io/v1alpha1). For each AppView it
makes the keys, the storage, the Deployment and the Service of a registry server; for each HoldLink it
finds the hold, watches its health and tells the server about it.

It finds the cluster by its pod's service account, or outside a cluster by KUBECONFIG.`,
		Example:       "  atcr-operator --appview-image registry.example.com/atcr-appview:v1 --leader-elect",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return run(f) },
	}
	fl, o := c.Flags(), &f.manager
	fl.StringVar(&o.AppViewImage, "appview-image", os.Getenv("ATCR_APPVIEW_IMAGE"),
		"image of the server for AppViews without spec.image; default: the variable ATCR_APPVIEW_IMAGE")
	fl.StringSliceVar(&o.Namespaces, "watch-namespaces", nil, "namespaces to watch, separated by commas; default: all")
	fl.StringVar(&o.ClusterDomain, "cluster-domain", "cluster.local", "domain of the cluster's DNS")
	fl.StringSliceVar(&f.allow, "allow-private-holds", nil,
		"address ranges (CIDR) that the operator may call for a hold besides public addresses and Services of the\nHoldLink's namespace")
	fl.DurationVar(&o.KeyPropagation, "key-propagation", 2*time.Minute,
		"how long a changed Secret takes at most to reach every pod: the kubelet's sync period and its cache")
	fl.DurationVar(&o.ClockSkew, "clock-skew", time.Minute, "how far the clocks of two nodes may differ")
	fl.StringToStringVar(&f.labels, "operator-labels", map[string]string{"app.kubernetes.io/name": "atcr-operator"},
		"labels of the operator's own pods, which network policies of AppViews let in")
	fl.BoolVar(&o.RestrictPods, "restrict-pods", false,
		"refuse spec.image and spec.podTemplate, but for its resources: whoever may write an AppView then runs the\noperator's own server image, and nothing else")
	fl.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8080", "address of /metrics; 0 turns it off")
	fl.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 turns it off")
	fl.BoolVar(&o.LeaderElect, "leader-elect", false, "let one of several replicas work")
	fl.StringVar(&o.LeaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; default: the pod's own")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "json", "json or text")
	return c
}

func run(f flags) error {
	log, err := logger(f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	for _, a := range f.allow {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return fmt.Errorf("--allow-private-holds: %q is not a range such as 10.0.0.0/8", a)
		}
		f.manager.AllowPrivateHolds = append(f.manager.AllowPrivateHolds, p)
	}
	if namespace, err := os.ReadFile(ownNamespace); err == nil {
		f.manager.Operator = &render.Peer{Namespace: strings.TrimSpace(string(namespace)), Labels: f.labels}
	}
	f.manager.Log, f.manager.Metrics = log, metrics.Registry
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)

	cfg, err := cluster()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	cfg.UserAgent = "atcr-operator/" + version
	ctx := ctrl.SetupSignalHandler()
	mgr, err := manager.New(ctx, cfg, f.manager)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version, "appviewImage", f.manager.AppViewImage, "namespaces", strings.Join(f.manager.Namespaces, ","))
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// ownNamespace is where a pod finds the name of its namespace.
const ownNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// cluster is the one that KUBECONFIG names, else the one that the pod runs in. A kubeconfig that merely lies around is
// not used: the operator writes.
func cluster() (*rest.Config, error) {
	if path := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); path != "" {
		return clientcmd.BuildConfigFromFlags("", path)
	}
	return rest.InClusterConfig()
}

func logger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither json nor text", format)
}
