// Package e2e holds the end-to-end suite: the built dormouse binary, real MCP clients and servers from npm,
// and SIGKILLs. Its tests stand behind the build tag e2e, because they want Node and the packages of .ci/e2e:
//
//	bash .ci/run e2e
//
// A missing tool fails the suite. Without the tag the package checks the documentation alone: that links
// lead somewhere and that commands and flags named there exist.
package e2e
