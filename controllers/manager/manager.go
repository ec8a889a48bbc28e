// Package manager puts the operator together: scheme, caches, limits, and the two controllers. The command and the tests
// start the same one.
package manager

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/appview"
	"atcr.io/operator/controllers/holdlink"
	"atcr.io/operator/controllers/internal/accounts"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/usersecret"
	"atcr.io/operator/controllers/probe"
	"atcr.io/operator/controllers/render"
)

// LeaderElectionID names the lease that the leader holds.
const LeaderElectionID = "atcr-operator.operator.atcr.io"

const (
	workers     = 10
	retryFirst  = time.Second
	retryMost   = 5 * time.Minute
	reconcileIn = time.Minute
	drain       = 20 * time.Second
)

// Options are the operator's flags.
type Options struct {
	AppViewImage            string         // of the server, for AppViews that name none
	Namespaces              []string       // to watch; empty: all
	ClusterDomain           string         // of the cluster's DNS
	AllowPrivateHolds       []netip.Prefix // ranges that the operator may call besides public ones
	MetricsAddress          string         // "0": none
	HealthAddress           string         // "0": none
	LeaderElect             bool
	Operator                *render.Peer  // the operator's own pods; nil: it runs outside the cluster
	RestrictPods            bool          // no image and no pod template of whoever writes an AppView
	KeyPropagation          time.Duration // how long a changed Secret takes to reach every pod; zero: two minutes
	ClockSkew               time.Duration // how far two clocks may differ; zero: one minute
	LeaderElectionNamespace string        // empty: the pod's own
	Log                     *slog.Logger
	Metrics                 prometheus.Registerer

	// Readiness asks servers which keys they have; nil: by HTTP.
	Readiness appview.Readiness

	// Now is the clock of AppViews; nil: time.Now.
	Now func() time.Time

	// SkipNameValidation lets several managers live in one process.
	SkipNameValidation bool
}

// New returns a manager with both controllers registered. ctx ends the registration of indexes, not the manager.
func New(ctx context.Context, cfg *rest.Config, o Options) (ctrl.Manager, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1 // the API server's priority and fairness is the judge; a client-side bucket only adds latency
	// Compressed, every watch costs 40 KiB here, and lists cost the API server more than they save in one cluster.
	cfg.DisableCompression = true
	log := logr.FromSlogHandler(o.Log.Handler())
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: Scheme(),
		Logger: log,
		Cache:  cacheOptions(o.Namespaces),
		// A stale cache must not make a second key. With several namespaces a kind has several caches, which this does
		// not support; keys are safe all the same, since Create is their lock.
		Client: client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(len(o.Namespaces) <= 1)}},

		Metrics:                       server.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:        o.HealthAddress,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              LeaderElectionID,
		LeaderElectionNamespace:       o.LeaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       new(drain),
		Controller: config.Controller{
			MaxConcurrentReconciles: workers,
			ReconciliationTimeout:   reconcileIn,
			EnableWarmup:            new(true),
			SkipNameValidation:      new(o.SkipNameValidation),
			Logger:                  log,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	if err := controllers(ctx, mgr, o); err != nil {
		return nil, err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the readiness check: %w", err)
	}
	return mgr, nil
}

func controllers(ctx context.Context, mgr ctrl.Manager, o Options) error {
	if err := links.Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := appview.Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	applier, err := apply.New(mgr.GetClient(), mgr.GetAPIReader(), o.Metrics)
	if err != nil {
		return err
	}
	prober, err := probe.New(o.Metrics)
	if err != nil {
		return err
	}
	if err := mgr.Add(prober); err != nil {
		return fmt.Errorf("adding the prober: %w", err)
	}
	watched, err := watchedSecrets(mgr, o.Namespaces)
	if err != nil {
		return fmt.Errorf("making the cache of users' Secrets: %w", err)
	}
	if err := mgr.Add(cacheRunnable{watched}); err != nil {
		return fmt.Errorf("adding the cache of users' Secrets: %w", err)
	}
	userSecrets := usersecret.New(watched, mgr.GetAPIReader(), time.Now)
	kinds, err := optional.New(mgr, optional.Options{
		Kinds: optional.All(), Namespaces: o.Namespaces,
		Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}),
	})
	if err != nil {
		return err
	}
	others, err := accounts.New(mgr)
	if err != nil {
		return err
	}
	if o.Readiness == nil {
		o.Readiness = newReadiness()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	appViews, err := appview.New(mgr, applier, o.Metrics, appview.Options{
		Defaults: render.Defaults{Image: o.AppViewImage, ClusterDomain: o.ClusterDomain,
			KeyPropagation: o.KeyPropagation, ClockSkew: o.ClockSkew},
		Namespaces:     o.Namespaces,
		Now:            o.Now,
		Readiness:      o.Readiness,
		WatchedSecrets: watched,
		UserSecrets:    userSecrets,
		Operator:       o.Operator,
		RestrictPods:   o.RestrictPods,
		Accounts:       others,
		Kinds:          kinds,
	})
	if err != nil {
		return err
	}
	resolver := holdlink.NewResolver(mgr.GetAPIReader(), o.ClusterDomain, o.AllowPrivateHolds, mgr.GetConfig().Host)
	holdLinks, err := holdlink.New(mgr, resolver, prober, o.Metrics, holdlink.Options{
		Namespaces: o.Namespaces, WatchedSecrets: watched, UserSecrets: userSecrets, Kinds: kinds,
	})
	if err != nil {
		return err
	}
	if err := appViews.SetupWithManager(mgr, controllerOptions()); err != nil {
		return fmt.Errorf("setting up the AppView controller: %w", err)
	}
	if err := holdLinks.SetupWithManager(mgr, controllerOptions()); err != nil {
		return fmt.Errorf("setting up the HoldLink controller: %w", err)
	}
	return nil
}

// controllerOptions: the priority queue has no limiter over all objects, and its default starts at 5 ms, so a fault that
// hits every object would hit the API server unbraked.
func controllerOptions() controller.Options {
	return controller.Options{
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryMost),
	}
}
