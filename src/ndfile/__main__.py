import ndfile.cli

raise SystemExit(ndfile.cli.main())
