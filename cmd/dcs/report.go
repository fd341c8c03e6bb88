package main

import "github.com/jc-lab/docker-cache-server/internal/gc"

func printReport(env *environment, rep gc.Report) error { return nil }
