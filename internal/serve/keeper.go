package serve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// keeper keeps the index of a store whole. It compares the index with the tree when the server starts, and again when
// the index was replaced, when a comparison failed, and when files that could not be read can be read.
type keeper struct {
	store  *store.Served
	met    *tree.Met
	log    logrus.FieldLogger
	config func() *config.Config
	tasks  *tasks
	onGate func(open bool) // nil: the caller of New did not ask

	rebuilding sync.Mutex    // held during a rebuild, so that there is one at a time; guards the rest
	unread     []tree.Unread // what the last rebuild could not read
	again      time.Time     // when watchGate may begin the next rebuild

	noPins string // why the pins could not be read at the last heartbeat; only watch uses it
}

// rebuild compares the index with the tree and then opens the gate.
func (k *keeper) rebuild(ctx context.Context) {
	k.rebuilding.Lock()
	defer k.rebuilding.Unlock()
	start := time.Now()
	k.tellGate(false)
	res, opened, err := k.compare(ctx)
	k.unread = res.Unread
	k.again = time.Now().Add(min(10*time.Since(start), retryPause))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case errors.Is(err, errLinksChanged):
		k.log.WithError(err).Info("nothing is removed until the index was compared with the disk once more")
		return
	default:
		k.again = time.Now().Add(retryPause)
		k.log.WithError(err).Error(
			"cannot compare the index with the disk; nothing is removed before that; trying again in a minute")
		return
	}
	for _, u := range res.Unread {
		k.log.WithError(u.Err).Error(
			"a part of the tree cannot be read; until it can, nothing of its repository is removed, nor any blob")
	}
	if !opened {
		return // another process began a rebuild after this one; watchGate looks again
	}
	k.tellGate(true)
	k.log.WithFields(logrus.Fields{"objects": res.Seen, "new": res.Adopted, "missing": res.Missing,
		"duration_ms": milliseconds(time.Since(start))}).Info("index matches the disk")
	if until, err := k.store.Index.Held(ctx); err == nil && !until.IsZero() {
		left := until.Sub(k.store.Index.Now()).Round(time.Second)
		k.log.WithField("until", stamp.Time(until).String()).Infof(
			"existing images were imported with their file dates; nothing is removed for the next %s",
			config.FormatDuration(left))
	}
}

var errLinksChanged = errors.New("symbolic links were made or changed during the comparison")

// compare compares the index with the tree. It opens the gate unless links changed in the meantime, or another process
// began to compare after this one.
func (k *keeper) compare(ctx context.Context) (res reconcile.Result, opened bool, err error) {
	cfg := k.config()
	policy := store.PolicyOf(cfg)
	k.met.Compare()
	res, err = reconcile.Rebuild(ctx, reconcile.Options{Dir: k.store.Dir, Index: k.store.Index, Log: k.log,
		NameAge: store.NameAge(cfg), Hold: policy.Grace + policy.Resolution,
		Prune: k.store.Tree.Prune, PruneUploads: k.store.Tree.PruneUploads})
	switch {
	case err != nil:
		return res, false, err
	case !k.met.Judge(res.Followed):
		return res, false, errLinksChanged
	}
	opened, err = k.store.Index.OpenGate(ctx, res.Token, res.Repositories()...)
	return res, opened, err
}

func (k *keeper) tellGate(open bool) {
	if k.onGate != nil {
		k.onGate(open)
	}
}

// watch records the heartbeat, and makes sure that the lock, the ballast and the index are still where they were.
func (k *keeper) watch(ctx context.Context) {
	if err := k.store.Keep(ctx); err != nil && ctx.Err() == nil {
		k.log.WithError(err).Error("cannot keep the lock of the data directory: another server may be at work in it")
	}
	if err := k.store.Tree.KeepBallast(); err != nil {
		k.log.WithError(err).Error("cannot keep ballast on the disk")
	}
	if k.store.Lost() {
		k.reopen(ctx)
		return
	}
	if err := k.store.Index.Beat(ctx); err != nil && ctx.Err() == nil {
		k.log.WithError(err).Error("cannot record the heartbeat in the index")
	}
	k.keepPins(ctx)
	k.watchGate(ctx)
}

// keepPins has the index know the pins, and says once why it cannot.
func (k *keeper) keepPins(ctx context.Context) {
	err := k.store.KeepPins(ctx)
	said := ""
	if err != nil {
		said = err.Error()
	}
	if err != nil && ctx.Err() == nil && said != k.noPins {
		k.log.WithError(err).Error("nothing is removed, and no tag can be deleted, until the pins can be read")
	}
	k.noPins = said
}

// reopen opens the index that took the place of a lost one, and has it rebuilt.
func (k *keeper) reopen(ctx context.Context) {
	k.log.Error("the index was deleted or replaced while serving; " +
		"it is rebuilt from disk, and everything that is not in it counts as used now")
	if err := k.store.Reopen(ctx, store.PolicyOf(k.config())); err != nil {
		k.log.WithError(err).Error("cannot open the index again; trying again soon")
		return
	}
	k.tasks.begin(k.rebuild)
}

// retryPause is how long watchGate waits after a rebuild that failed. After others it waits ten times as long as they
// took, and no longer than this: links that appear all the time leave most of the server to the clients.
const retryPause = time.Minute

// watchGate begins a rebuild when none runs and either the gate is closed, because a rebuild failed or a gc that began
// one was interrupted, or something that could not be read now can be.
func (k *keeper) watchGate(ctx context.Context) {
	whole, err := k.store.Index.Whole(ctx)
	if err != nil || !k.rebuilding.TryLock() {
		return
	}
	due := time.Now().After(k.again) && (!whole || slices.ContainsFunc(k.unread, tree.Unread.Readable))
	k.rebuilding.Unlock()
	if due {
		k.tasks.begin(k.rebuild)
	}
}
