package registry

import (
	"context"
	"fmt"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
)

// newApp makes distribution's handlers. They see requests whose client is known and whose names are
// valid. Their panics, by which they report a bad configuration, become an error.
func newApp(ctx context.Context, d *driver) (app *handlers.App, err error) {
	registerOnce()
	cfg := &configuration.Configuration{
		Storage: configuration.Storage{
			driverName: configuration.Parameters{"driver": d},
			"redirect": configuration.Parameters{"disable": true},
			// There are no uploads of its own.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	cfg.HTTP.Secret = "unused" // signs uploads; without one it warns
	cfg.Catalog.MaxEntries, cfg.Tags.MaxTags = maxEntries, maxEntries
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start distribution's handlers: %v", p)
		}
	}()
	return handlers.NewApp(ctx, cfg), nil
}

// driverName is under which distribution finds our driver.
const driverName = "dcs"

// registerOnce enters distribution's global table, which panics on a second entry of a name. What is
// entered carries no state: a server's own driver comes in with its parameters.
var registerOnce = sync.OnceFunc(func() { factory.Register(driverName, fromParameters{}) })

type fromParameters struct{}

// Create implements factory.StorageDriverFactory.
func (fromParameters) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	d, ok := parameters["driver"].(*driver)
	if !ok {
		return nil, fmt.Errorf("storage driver %s needs its driver as a parameter", driverName)
	}
	return d, nil
}
