#include "ufuncs.h"

#include "streaming.h"
#include "view.h"

/* Before each call NumPy looks whether a class among the operands has an __array_ufunc__ of its own. If so, it makes a tuple
 * and a dict of the arguments and calls that, which then calls the ufunc once more: 0.1 to 0.5 us, beside the 0.8 us that
 * it takes on few items. All that for large outputs. So while no open mapping has one, NumPy finds ndarray's own here, and
 * does what it does for every subclass: it asks __array_wrap__ about the result. (And NumPy forgets a reference to the
 * inputs of a reduction whose __array_ufunc__ raises, up to 2.4 at least: then they are never freed.)
 *
 * What is not large goes NumPy's way on plain views of our arrays: so a result is plain, unless it is an `out` of ours. */

/* A ufunc has up to 64 operands, but hardly ever more than these. */
enum { USUAL_OPERANDS = 8 };

typedef struct {
    PyObject *const *args; /* ufunc, method, inputs, and the values of keywords */
    Py_ssize_t ninputs;
    PyObject *names;       /* of the keywords, or NULL */
    Py_ssize_t nnames;
    PyObject *outs;        /* the value of `out`, a tuple, or NULL */
    PyObject **plain;      /* what NumPy gets in the place of `args`: new references, as far as they were made */
    Py_ssize_t nplain;
} ufunc_call;

static bool
is_ours(PyObject *object)
{
    return view_gives_plain_results(Py_TYPE(object));
}

/* ---- Other classes ---- */

/* ndarray.__array_ufunc__, which every subclass has that leaves ufuncs alone. Lives as long as the process. */
static PyObject *
ndarrays_own(void)
{
    static PyObject *own;
    if (own == NULL) {
        own = PyObject_GetAttrString((PyObject *)&PyArray_Type, "__array_ufunc__");
    }
    return own;
}

/* 1 if the object's class has a say in ufuncs, besides ours. */
static int
has_a_say(PyObject *object)
{
    if (PyArray_CheckExact(object) || is_ours(object) || PyFloat_CheckExact(object) || PyLong_CheckExact(object) ||
        PyBool_Check(object) || object == Py_None || PyComplex_CheckExact(object) ||
        PyArray_IsScalar(object, Generic)) {
        return 0;
    }
    PyObject *own = ndarrays_own();
    PyObject *say = own == NULL ? NULL : PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__array_ufunc__");
    if (say == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(say);
    return say != own;
}

static int
others_have_a_say(const ufunc_call *call)
{
    int status = 0;
    for (Py_ssize_t i = 0; i < call->ninputs && status == 0; i++) {
        status = has_a_say(call->args[2 + i]);
    }
    Py_ssize_t nouts = call->outs == NULL ? 0 : PyTuple_GET_SIZE(call->outs);
    for (Py_ssize_t i = 0; i < nouts && status == 0; i++) {
        status = has_a_say(PyTuple_GET_ITEM(call->outs, i));
    }
    return status;
}

/* ---- Large outputs ---- */

static bool
has_large_output(const ufunc_call *call)
{
    Py_ssize_t nouts = call->outs == NULL ? 0 : PyTuple_GET_SIZE(call->outs);
    for (Py_ssize_t i = 0; i < nouts; i++) {
        PyObject *out = PyTuple_GET_ITEM(call->outs, i);
        if (is_ours(out) && (size_t)PyArray_NBYTES((PyArrayObject *)out) >= nd_stream_from(ND_STREAM_OUT_NBYTES)) {
            return PyUnicode_CompareWithASCIIString(call->args[1], "__call__") == 0;
        }
    }
    return false;
}

/* ndfile.compute.ufuncs.stream_ufunc(ufunc, inputs, outs, keywords), or NotImplemented. */
static PyObject *
stream(const ufunc_call *call)
{
    PyObject *module = PyImport_ImportModule("ndfile.compute.ufuncs"), *keywords = PyDict_New(), *result = NULL;
    PyObject *inputs = PyTuple_New(call->ninputs);
    if (module == NULL || keywords == NULL || inputs == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < call->ninputs; i++) {
        PyTuple_SET_ITEM(inputs, i, Py_NewRef(call->args[2 + i]));
    }
    for (Py_ssize_t i = 0; i < call->nnames; i++) {
        PyObject *value = call->args[2 + call->ninputs + i];
        if (value != call->outs && PyDict_SetItem(keywords, PyTuple_GET_ITEM(call->names, i), value) < 0) {
            goto done;
        }
    }
    result = PyObject_CallMethod(module, "stream_ufunc", "OOOO", call->args[0], inputs, call->outs, keywords);
done:
    Py_XDECREF(module);
    Py_XDECREF(keywords);
    Py_XDECREF(inputs);
    return result;
}

/* ---- NumPy's own way ---- */

static PyObject *
plain_of(PyObject *object, const char *act)
{
    if (!is_ours(object)) {
        return Py_NewRef(object);
    }
    return view_refuse_closed(object, act) < 0 ? NULL : view_as_plain(object);
}

static PyObject *
plain_outs(PyObject *outs)
{
    PyObject *plain = PyTuple_New(PyTuple_GET_SIZE(outs));
    for (Py_ssize_t i = 0; plain != NULL && i < PyTuple_GET_SIZE(outs); i++) {
        PyObject *one = plain_of(PyTuple_GET_ITEM(outs, i), "write");
        if (one == NULL) {
            Py_CLEAR(plain);
        }
        else {
            PyTuple_SET_ITEM(plain, i, one);
        }
    }
    return plain;
}

static int
make_plain(ufunc_call *call)
{
    for (Py_ssize_t i = 0; i < call->ninputs + call->nnames; i++) {
        PyObject *object = call->args[2 + i];
        PyObject *plain = object == call->outs ? plain_outs(object) : plain_of(object, "read");
        if (plain == NULL) {
            return -1;
        }
        call->plain[call->nplain++] = plain;
    }
    return 0;
}

static PyObject *
call_plain(const ufunc_call *call)
{
    PyObject *ufunc = call->args[0], *method = call->args[1];
    /* The place before the inputs is free for the ufunc itself. */
    size_t nargs = (size_t)call->ninputs;
    if (PyUnicode_CompareWithASCIIString(method, "__call__") == 0) {
        return PyObject_Vectorcall(ufunc, call->plain, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, call->names);
    }
    call->plain[-1] = ufunc;
    return PyObject_VectorcallMethod(method, call->plain - 1, (nargs + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, call->names);
}

/* The place of a result among the plain outs is that of our own array among the given. */
static PyObject *
given_out(const ufunc_call *call, PyObject *result)
{
    for (Py_ssize_t i = 0; call->outs != NULL && i < call->nnames; i++) {
        if (call->args[2 + call->ninputs + i] != call->outs) {
            continue;
        }
        PyObject *plain = call->plain[call->ninputs + i];
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(plain); j++) {
            if (PyTuple_GET_ITEM(plain, j) == result) {
                return Py_NewRef(PyTuple_GET_ITEM(call->outs, j));
            }
        }
    }
    return Py_NewRef(result);
}

/* Takes the result. */
static PyObject *
with_given_outs(const ufunc_call *call, PyObject *result)
{
    if (result == NULL || call->outs == NULL) {
        return result;
    }
    if (!PyTuple_CheckExact(result)) {
        Py_SETREF(result, given_out(call, result));
        return result;
    }
    PyObject *given = PyTuple_New(PyTuple_GET_SIZE(result));
    for (Py_ssize_t i = 0; given != NULL && i < PyTuple_GET_SIZE(result); i++) {
        PyTuple_SET_ITEM(given, i, given_out(call, PyTuple_GET_ITEM(result, i)));
    }
    Py_DECREF(result);
    return given;
}

static int
refuse_lost(PyObject *object, const char *act)
{
    return is_ours(object) && view_may_have_lost(object, view_mapping(object)) ? view_refuse_lost(object, act) : 0;
}

static int
refuse_any_lost(const ufunc_call *call)
{
    int status = 0;
    for (Py_ssize_t i = 0; i < call->ninputs + call->nnames && status == 0; i++) {
        PyObject *object = call->args[2 + i];
        if (object != call->outs) {
            status = refuse_lost(object, "read");
            continue;
        }
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(object) && status == 0; j++) {
            status = refuse_lost(PyTuple_GET_ITEM(object, j), "write");
        }
    }
    return status;
}

static PyObject *
plainly(ufunc_call *call)
{
    PyObject *usual[1 + USUAL_OPERANDS], **space = usual;
    Py_ssize_t total = call->ninputs + call->nnames;
    if (total > USUAL_OPERANDS && (space = PyMem_New(PyObject *, total + 1)) == NULL) {
        return PyErr_NoMemory();
    }
    call->plain = space + 1;
    PyObject *result = make_plain(call) < 0 ? NULL : with_given_outs(call, call_plain(call));
    if (refuse_any_lost(call) < 0) {
        Py_CLEAR(result);
    }
    for (Py_ssize_t i = 0; i < call->nplain; i++) {
        Py_DECREF(call->plain[i]);
    }
    if (space != usual) {
        PyMem_Free(space);
    }
    return result;
}

static PyObject *
array_ufunc(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (nargs < 2 || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "__array_ufunc__(ufunc, method, *inputs, **kwargs) takes a ufunc and a str");
        return NULL;
    }
    ufunc_call call = {.args = args, .ninputs = nargs - 2, .names = names};
    call.nnames = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < call.nnames; i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), "out") == 0 && PyTuple_Check(args[nargs + i])) {
            call.outs = args[nargs + i];
        }
    }
    int others = others_have_a_say(&call);
    if (others != 0) {
        return others < 0 ? NULL : Py_NewRef(Py_NotImplemented);
    }
    if (has_large_output(&call)) {
        PyObject *result = stream(&call);
        if (result != Py_NotImplemented) {
            return result;
        }
        Py_DECREF(result);
    }
    return plainly(&call);
}

/* ---- The attribute ---- */

static PyMethodDef array_ufunc_method = {
    "__array_ufunc__", (PyCFunction)(void (*)(void))array_ufunc, METH_FASTCALL | METH_KEYWORDS, NULL};

typedef struct {
    PyObject_HEAD
    PyObject *ours; /* the method of ArrayBase */
} UfuncAttribute;

static PyObject *
attribute_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *class;
    if (!PyArg_ParseTuple(args, "O!:UfuncAttribute", &PyType_Type, &class)) {
        return NULL;
    }
    UfuncAttribute *self = (UfuncAttribute *)type->tp_alloc(type, 0);
    if (self != NULL && (self->ours = PyDescr_NewMethod((PyTypeObject *)class, &array_ufunc_method)) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
attribute_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((UfuncAttribute *)object)->ours);
    Py_VISIT(Py_TYPE(object));
    return 0;
}

static int
attribute_clear(PyObject *object)
{
    Py_CLEAR(((UfuncAttribute *)object)->ours);
    return 0;
}

static void
attribute_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    attribute_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Subclasses leave their results to NumPy, as those of numpy.memmap do. */
static PyObject *
attribute_get(PyObject *object, PyObject *array, PyObject *class)
{
    PyTypeObject *type = array != NULL ? Py_TYPE(array) : (PyTypeObject *)class;
    bool is_ours = (nd_stream_outs != 0 || nd_stream_nbytes != 0) && view_gives_plain_results(type);
    PyObject *found = is_ours ? ((UfuncAttribute *)object)->ours : ndarrays_own();
    if (found == NULL || array == NULL) {
        return Py_XNewRef(found);
    }
    return Py_TYPE(found)->tp_descr_get(found, array, (PyObject *)type);
}

static PyType_Slot ufunc_attribute_slots[] = {
    {Py_tp_doc, PyDoc_STR("UfuncAttribute(class, /)\n--\n\n"
                          "What __array_ufunc__ is: ndarray's own, unless there are large outputs of that class.")},
    {Py_tp_new, attribute_new},
    {Py_tp_traverse, attribute_traverse},
    {Py_tp_clear, attribute_clear},
    {Py_tp_dealloc, attribute_dealloc},
    {Py_tp_descr_get, attribute_get},
    {0, NULL},
};

PyType_Spec ufunc_attribute_spec = {
    .name = "ndfile._core.UfuncAttribute",
    .basicsize = sizeof(UfuncAttribute),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ufunc_attribute_slots,
};
