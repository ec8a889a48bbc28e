// Package usersecret reads the Secrets that a spec names and that are not the operator's. A cache of every Secret in a
// cluster costs gigabytes, so only those that their owner labels operator.atcr.io/watch=true are cached; the others are
// read from the API server, each at most once in [Every].
package usersecret

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Every is how old what is known of an unlabelled Secret may become, less up to a tenth of it.
const Every = 10 * time.Minute

// missedEvery is for Secrets that are not there, or not as they should be.
const missedEvery = 30 * time.Second

// Reader reads Secrets. It is safe for concurrent use.
type Reader struct {
	watched client.Reader // knows the labelled ones
	live    client.Reader
	now     func() time.Time

	mu   sync.Mutex
	seen map[client.ObjectKey]seen
}

type seen struct {
	secret *corev1.Secret // nil: not there
	until  time.Time
}

// New makes a reader of a cache of labelled Secrets and the API server.
func New(watched, live client.Reader, now func() time.Time) *Reader {
	return &Reader{watched: watched, live: live, now: now, seen: map[client.ObjectKey]seen{}}
}

// Get reads a Secret; do not change it. again is when it should be read again; zero: a watch tells. The error of a Secret
// that is not there is the API server's.
func (r *Reader) Get(ctx context.Context, key client.ObjectKey) (s *corev1.Secret, again time.Duration, err error) {
	s = &corev1.Secret{}
	err = r.watched.Get(ctx, key, s)
	if err == nil {
		r.Forget(key)
		return s, 0, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, 0, err
	}
	now := r.now()
	r.mu.Lock()
	known, ok := r.seen[key]
	r.mu.Unlock()
	if ok && now.Before(known.until) {
		if known.secret == nil {
			return nil, known.until.Sub(now), notFound(key)
		}
		return known.secret, known.until.Sub(now), nil
	}
	err = r.live.Get(ctx, key, s)
	switch {
	case apierrors.IsNotFound(err):
		known = seen{nil, now.Add(missedEvery)}
	case err != nil:
		return nil, 0, err
	default:
		known = seen{s, now.Add(Every - rand.N(Every/10))}
	}
	r.mu.Lock()
	r.seen[key] = known
	r.mu.Unlock()
	if known.secret == nil {
		return nil, missedEvery, err
	}
	return s, known.until.Sub(now), nil
}

// Unfit says that a Secret is not as it should be: it is read again soon. It returns when.
func (r *Reader) Unfit(key client.ObjectKey) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.seen[key]
	if !ok {
		return 0 // watched
	}
	known.until = minTime(known.until, r.now().Add(missedEvery))
	r.seen[key] = known
	return known.until.Sub(r.now())
}

// Forget has the Secret read at the next Get.
func (r *Reader) Forget(key client.ObjectKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, key)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func notFound(key client.ObjectKey) error {
	return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
}
