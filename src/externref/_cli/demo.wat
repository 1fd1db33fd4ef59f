;; Keeps references for its host, in a table of its own. Nothing here counts.
(module
  (table $kept (export "kept") 4 externref)

  (func (export "put") (param $slot i32) (param $ref externref)
    (table.set $kept (local.get $slot) (local.get $ref)))

  (func (export "take") (param $slot i32) (result externref)
    (table.get $kept (local.get $slot))
    (table.set $kept (local.get $slot) (ref.null extern))))
