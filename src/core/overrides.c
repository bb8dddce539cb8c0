/* What NumPy's own functions are to be with large arrays of ours: done block by block, in Python. */
#include "overrides.h"

#include "fault_error.h"
#include "streaming.h"
#include "view.h"

/* From here on a function of NumPy's may be done block by block. */
enum { FUNCTION_NBYTES = 4 << 20 };

bool
overrides_is_large(PyObject *object, size_t items, size_t nbytes)
{
    if (!view_gives_plain_results(Py_TYPE(object))) {
        return false;
    }
    size_t own_nbytes = (size_t)PyArray_NBYTES((PyArrayObject *)object);
    return own_nbytes >= nd_stream_from(nbytes) &&
           (nd_stream_nbytes != 0 || (size_t)PyArray_SIZE((PyArrayObject *)object) >= items);
}

/* A function of ndfile.compute.spellings, which is imported with the first large array. */
static PyObject *
spelling(const char *name)
{
    PyObject *module = PyImport_ImportModule("ndfile.compute.spellings");
    PyObject *function = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return function;
}

PyObject *
overrides_method(const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PyObject *function = spelling("method"), *result = NULL;
    PyObject *positional = PyTuple_New(nargs), *named = PyDict_New();
    if (function == NULL || positional == NULL || named == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    }
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(names, i), args[nargs + i]) < 0) {
            goto done;
        }
    }
    result = PyObject_CallFunction(function, "sOOO", name, self, positional, named);
done:
    Py_XDECREF(function);
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

/* Whether one of the arguments is a large array of ours. */
static bool
has_large(PyObject *args, PyObject *kwargs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        if (overrides_is_large(PyTuple_GET_ITEM(args, i), 0, FUNCTION_NBYTES)) {
            return true;
        }
    }
    PyObject *key, *value;
    Py_ssize_t place = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &place, &key, &value)) {
        if (overrides_is_large(value, 0, FUNCTION_NBYTES)) {
            return true;
        }
    }
    return false;
}

/* As ndarray's own: where all types are arrays, what the function does without us. A new reference, NULL without an exception
 * for what ndarray is to answer itself. */
static PyObject *
call_implementation(PyObject *function, PyObject *types, PyObject *args, PyObject *kwargs)
{
    static PyObject *name;
    if (name == NULL && (name = PyUnicode_InternFromString("_implementation")) == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++) {
        PyObject *type = PyTuple_GET_ITEM(types, i);
        if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &PyArray_Type)) {
            return NULL;
        }
    }
    PyObject *implementation = PyObject_GetAttr(function, name);
    PyObject *result = implementation == NULL ? NULL : PyObject_Call(implementation, args, kwargs);
    Py_XDECREF(implementation);
    return result;
}

/* __array_function__(function, types, args, kwargs) */
static PyObject *
array_function(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    static PyObject *method;
    bool is_usual = nargs == 4 && PyTuple_CheckExact(args[1]) && PyTuple_Check(args[2]) && PyDict_Check(args[3]);
    if (is_usual && has_large(args[2], args[3])) {
        PyObject *function = spelling("function");
        PyObject *result =
            function == NULL ? NULL : PyObject_CallFunctionObjArgs(function, args[0], args[2], args[3], NULL);
        Py_XDECREF(function);
        if (result != Py_NotImplemented) {
            return fault_checked(result);
        }
        Py_DECREF(result);
    }
    if (is_usual) {
        PyObject *result = call_implementation(args[0], args[1], args[2], args[3]);
        if (result != NULL || PyErr_Occurred()) {
            return result;
        }
    }
    if (method == NULL && (method = PyObject_GetAttrString((PyObject *)&PyArray_Type, "__array_function__")) == NULL) {
        return NULL;
    }
    PyObject *all[] = {self, nargs > 0 ? args[0] : NULL, nargs > 1 ? args[1] : NULL, nargs > 2 ? args[2] : NULL,
                       nargs > 3 ? args[3] : NULL};
    return nargs > 4 ? PyErr_Format(PyExc_TypeError, "__array_function__() takes 4 arguments, not %zd", nargs)
                     : PyObject_Vectorcall(method, all, (size_t)nargs + 1, NULL);
}

/* ---- Being asked ---- */

static PyMethodDef asked = {"__array_function__", (PyCFunction)(void (*)(void))array_function, METH_FASTCALL, NULL};

int
overrides_note_size(PyTypeObject *type, size_t nbytes)
{
    if (nbytes < nd_stream_from(FUNCTION_NBYTES)) {
        return 0;
    }
    while (type->tp_getset != view_getset) {
        type = type->tp_base;
    }
    /* The type's own attribute, not ndarray's: it is there already. */
    if (PyDict_GetItemString(type->tp_dict, asked.ml_name) != NULL) {
        return 0;
    }
    PyObject *method = PyDescr_NewMethod(type, &asked);
    int status = method == NULL ? -1 : PyDict_SetItemString(type->tp_dict, asked.ml_name, method);
    Py_XDECREF(method);
    PyType_Modified(type); /* SAFE: the type is ours; nobody else may change it */
    return status;
}
