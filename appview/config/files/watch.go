package files

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a burst of events may last before it is acted on: an update of a Kubernetes volume is several.
const settle = 100 * time.Millisecond

// Watcher calls back when something in a directory changes, which includes the swap of the ..data symlink by which
// Kubernetes updates mounted Secrets and ConfigMaps. It also calls back at each poll, since notifications do not
// work on every file system; callbacks compare content themselves.
type Watcher struct {
	poll time.Duration
	log  *slog.Logger
	mu   sync.Mutex
	dirs map[string][]func()
}

// NewWatcher makes a watcher that also looks every poll.
func NewWatcher(poll time.Duration, log *slog.Logger) *Watcher {
	return &Watcher{poll: poll, log: log, dirs: map[string][]func(){}}
}

// Add registers a callback. Call it before Run.
func (w *Watcher) Add(dir string, changed func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirs[dir] = append(w.dirs[dir], changed)
}

// Run watches until ctx ends. Callbacks run one at a time.
func (w *Watcher) Run(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.WarnContext(ctx, "file notifications do not work; looking now and then instead", "every", w.poll, "error", err)
		notify = &fsnotify.Watcher{}
	} else {
		defer notify.Close() //nolint:errcheck // nothing is lost
		for dir := range w.dirs {
			if err := notify.Add(dir); err != nil {
				w.log.WarnContext(ctx, "directory cannot be watched; looking now and then instead", "directory", dir, "every", w.poll, "error", err)
			}
		}
	}
	w.callAll() // what changed between the first reading and now
	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-notify.Events:
			if !ok {
				notify = &fsnotify.Watcher{} // closed: its nil channels block, and polling goes on
			} else if settled == nil {
				settled = time.After(settle)
			}
		case err, ok := <-notify.Errors:
			if !ok {
				notify = &fsnotify.Watcher{}
				continue
			}
			w.log.WarnContext(ctx, "watching files", "error", err)
		case <-settled:
			settled = nil
			w.callAll()
		case <-tick.C:
			w.callAll()
		}
	}
}

func (w *Watcher) callAll() {
	for _, callbacks := range w.dirs {
		for _, f := range callbacks {
			f()
		}
	}
}
