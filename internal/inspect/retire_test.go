package inspect

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// retire does what a clean-up does, until nothing goes any more.
func (w *world) retire(p index.Policy) {
	w.T.Helper()
	ctx, c := context.Background(), gc.Collector{Files: noFiles{}, Index: w, Log: quiet()}
	for range 10 {
		plan, err := c.NewPlan(ctx, p)
		w.Must(err)
		if len(plan.Tags)+len(plan.Manifests)+len(plan.Layers)+len(plan.Blobs) == 0 {
			return
		}
		done, err := c.Execute(ctx, plan)
		w.Must(err)
		if want := plan.Result(); done.Removed != want.Removed || len(done.Images) != len(want.Images) {
			w.T.Fatalf("planned %+v, removed %+v", want, done)
		}
	}
	w.T.Fatal("there is always more to remove")
}

// noFiles are those of a world, which has rows only.
type noFiles struct{}

func (noFiles) Uploads() (gc.Uploads, error)  { return noFiles{}, nil }
func (noFiles) Elsewhere(layout.Key) bool     { return false }
func (noFiles) Remover() gc.Remover           { return noFiles{} }
func (noFiles) EndLevel(func(int, int)) error { return nil }
func (noFiles) Resume() error                 { return nil }
func (noFiles) Empty() error                  { return nil }
func (noFiles) MakeRoom() bool                { return false }
func (noFiles) Hidden(string) bool            { return false }
func (noFiles) Unread() error                 { return nil }
func (noFiles) Remove(r index.Row) (index.Removed, error) {
	return index.Removed{File: r.Placed, Bytes: r.Size}, nil
}

func (noFiles) RemoveUpload(layout.Upload, time.Time) (bool, error) { return false, nil }

func (noFiles) Abandoned(context.Context, time.Time) ([]layout.Upload, error) { return nil, nil }

func (noFiles) Oldest(context.Context, string, time.Time) (time.Time, error) { return time.Time{}, nil }
