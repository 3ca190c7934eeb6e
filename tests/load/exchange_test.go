package main

import (
	"testing"
	"time"
)

func TestAServerThatStandsStillIsChargedForWhatWasDueMeanwhile(t *testing.T) {
	stands := 200 * time.Millisecond
	begun := time.Now()
	samples, _ := run(schedule{rate: 100, calls: 20}, func(int) (string, bool) {
		time.Sleep(time.Until(begun.Add(stands))) // all calls are answered at one moment
		return "", false
	})
	for n, each := range samples[:15] { // due at 0, 10, 20, ... ms
		if left := stands - time.Duration(n)*10*time.Millisecond; each.waited < left-5*time.Millisecond {
			t.Fatalf("call %d waited %s of %s", n, each.waited, left)
		}
	}
}

func TestCallsAreDueWhateverBecameOfThoseBefore(t *testing.T) {
	plan := schedule{rate: 250, calls: 1000}
	if plan.due(0) != 0 || plan.due(1) != 4*time.Millisecond || plan.due(500) != 2*time.Second {
		t.Fatal(plan.due(1), plan.due(500))
	}
}

func TestQuantilesAreNearestRanks(t *testing.T) {
	var of []time.Duration
	for n := 100; n > 0; n-- {
		of = append(of, time.Duration(n)*time.Millisecond)
	}
	found := quantiles(of)
	for name, wanted := range map[string]float64{"p50": 50, "p90": 90, "p99": 99, "p99.9": 100, "p100": 100} {
		if found[name] != wanted {
			t.Fatal(name, found[name])
		}
	}
	if len(quantiles(nil)) != 0 {
		t.Fatal("nothing was measured")
	}
}

func TestWhatIsCounted(t *testing.T) {
	found := summary([]sample{{}, {}, {outcome: "LIMIT_BUSY", refused: true}, {outcome: "Unavailable"}}, 4, 0, 0)
	if found["granted"] != 2 || found["refused"].(map[string]int)["LIMIT_BUSY"] != 1 {
		t.Fatal(found)
	}
	if found["failed"].(map[string]int)["Unavailable"] != 1 || found["scheduled"] != 4 {
		t.Fatal(found)
	}
}
